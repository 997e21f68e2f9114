//! The fuzzed functions, one for each parser: each takes any bytes and checks properties that must hold.
//!
//! Included by the fuzz targets and by `tests/corpus.rs`, which feeds the committed corpus
//! and simple mutations of it to the same functions without a fuzzer.
//!
//! Each returns whether the input was accepted, so that a corpus which no longer reaches
//! anything is noticed.

use std::fs;
use std::path::PathBuf;

use kache::config::{ConfigErrors, ConfigSources, Environment, Settings, Site, ValueKind, list, load};
use kache_client::control::{self, Decoder, FRAME_BYTES_MAX, FrameError};
use kache_proto::Message;
use kache_serve::resource_name::{Compression, NAME_BYTES_MAX, ResourceName, check_instance};
use kache_serve::{auth, host_guard, http_path, range, tokens};

/// A parser under test.
pub(crate) type Entry = fn(&[u8]) -> bool;

/// Every one of them, by the name of its target and its corpus.
pub(crate) const ENTRIES: &[(&str, Entry)] = &[
    ("config", config),
    ("credentials", credentials),
    ("frames", frames),
    ("http_headers", http_headers),
    ("http_path", http_path),
    ("resource_name", resource_name),
];

/// Runs the entry of this name.
pub(crate) fn run(name: &str, input: &[u8]) -> bool {
    let (_, entry) = ENTRIES.iter().find(|(known, _)| *known == name).expect("the target is in ENTRIES");
    entry(input)
}

/// The path of an HTTP request.
fn http_path(input: &[u8]) -> bool {
    let path = String::from_utf8_lossy(input);
    let Ok(target) = http_path::parse(&path) else { return false };
    assert!(path.len() <= http_path::PATH_BYTES_MAX);
    let hash = match target {
        http_path::HttpTarget::Action { instance, hash } => {
            assert!(instance.len() <= http_path::INSTANCE_BYTES_MAX);
            assert!(!instance.contains(char::is_control) && !instance.split('/').skip(1).any(str::is_empty));
            hash
        }
        http_path::HttpTarget::Blob { hash } => hash,
        http_path::HttpTarget::Status | http_path::HttpTarget::Metrics => return true,
    };
    assert!(path.ends_with(&hash.to_hex()), "{path} does not name {hash}");
    true
}

/// `Range`, against a length in the first 8 bytes, `Host`, as a loopback listener reads it,
/// and `Authorization`.
fn http_headers(input: &[u8]) -> bool {
    let Some((len, header)) = input.split_first_chunk::<8>() else { return false };
    let len = u64::from_be_bytes(*len);
    let is_part = match range::extent(Some(header), len) {
        range::Extent::Whole | range::Extent::Unsatisfiable => false,
        range::Extent::Part { start, len: part } => {
            assert!(part > 0 && start.checked_add(part).is_some_and(|end| end <= len));
            true
        }
    };
    let host = String::from_utf8_lossy(header);
    let provenance = host_guard::Provenance { host: Some(&host), ..Default::default() };
    let is_local = host_guard::HostGuard::loopback(9092, &[]).check(provenance).is_ok();
    if is_local {
        let (name, port) = host.trim().rsplit_once(':').expect("a port other than 80 is named");
        assert_eq!(port.parse(), Ok(9092), "{host} names no port of ours");
        let is_this_machine = name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        assert!(
            is_this_machine || name.starts_with('[') || name.eq_ignore_ascii_case("localhost"),
            "{host} was taken for this machine"
        );
    }
    is_part || is_local || credentials_header(header)
}

/// `Authorization`. Whether it was read.
fn credentials_header(header: &[u8]) -> bool {
    let presented = auth::read_header(Some(header));
    if let auth::AuthorizationHeader::Basic { user, .. } = &presented {
        assert!(!user.contains(':'), "the name ends at the first colon");
    }
    !matches!(presented, auth::AuthorizationHeader::Absent | auth::AuthorizationHeader::Malformed(_))
}

/// The file of passwords and tokens.
fn credentials(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let Ok(table) = tokens::CredentialTable::parse(&text) else { return false };
    assert!(table.len() <= text.lines().count());
    !table.is_empty()
}

/// A stream of framed messages, in pieces whose size the first byte says.
fn frames(input: &[u8]) -> bool {
    let Some((piece, stream)) = input.split_first() else { return false };
    let whole = bodies(stream, stream.len().max(1));
    let pieces = bodies(stream, usize::from(*piece).max(1));
    assert_eq!(whole, pieces, "how a stream is cut changes what it says");
    for body in whole.0.iter() {
        assert!(body.len() <= FRAME_BYTES_MAX);
        read_again::<control::Hello>(body);
        read_again::<control::Request>(body);
        read_again::<control::Reply>(body);
    }
    whole.1.is_ok() && !whole.0.is_empty()
}

/// The frames of a stream, and how it ended.
fn bodies(stream: &[u8], piece_len: usize) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    for piece in stream.chunks(piece_len) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(body)) => found.push(body),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    let end = decoder.finish();
    (found, end)
}

/// Checks that a message which can be decoded is the same after it was encoded and decoded again.
fn read_again<M: Message + Default + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let Ok(message) = control::decode::<M>(body) else { return };
    let frame = control::encode(&message).expect("it came in a frame");
    let (again, end) = bodies(&frame, frame.len());
    assert!(end.is_ok() && again.len() == 1);
    assert!(control::decode::<M>(&again[0]).as_ref() == Ok(&message), "{message:?} changed");
}

/// Parses a resource name of ByteStream for reads and for writes, and as an instance name.
fn resource_name(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    if check_instance(&text).is_ok() {
        assert!(!text.split('/').any(|segment| matches!(segment, "blobs" | "uploads" | "compressed-blobs")));
    }
    let (read, write) = (ResourceName::for_read(&text), ResourceName::for_write(&text));
    for name in [&read, &write].into_iter().flatten() {
        assert!(text.len() <= NAME_BYTES_MAX);
        let (keyword, digest) = match name.compression {
            Compression::Identity => ("blobs/", name.digest),
            Compression::Zstd => ("compressed-blobs/zstd/", name.digest),
        };
        let end = format!("{}/{}", digest.hash, digest.size_bytes);
        assert!(text.contains(keyword) && text.contains(&end), "{text} does not name {digest}");
        let canonical = match digest.function {
            kache_cas::DigestFunction::Sha256 => format!("{keyword}{end}"),
            function => format!("{keyword}{function}/{end}"),
        };
        assert_eq!(ResourceName::for_read(&canonical).as_ref(), Ok(name));
    }
    assert!(read.is_err() || write.is_err(), "{text} cannot be both a download and an upload");
    read.is_ok() || write.is_ok()
}

/// A configuration file of the user's, and its text as the value of a variable.
fn config(input: &[u8]) -> bool {
    const KINDS: [ValueKind; 8] = [
        ValueKind::Path,
        ValueKind::Size,
        ValueKind::Duration,
        ValueKind::Bool,
        ValueKind::Address,
        ValueKind::Metrics,
        ValueKind::Level,
        ValueKind::Names,
    ];
    let text = String::from_utf8_lossy(input);
    for kind in KINDS {
        let Some(value) = kind.read(&text) else { continue };
        let said = value.to_variable();
        assert_eq!(said.to_str().and_then(|said| kind.read(said)), Some(value), "{kind:?}");
    }
    match settings_of_file(input) {
        Ok(settings) => {
            let again = settings_of(Environment::new(settings.to_variables()))
                .expect("a daemon understands what its starter says");
            assert_eq!(again.to_variables(), settings.to_variables());
            assert_eq!((again.serve, again.log), (settings.serve, settings.log));
            true
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for error in &errors.0 {
                assert!(!error.what.is_empty() && !error.remedy.is_empty(), "{error:?}");
                if let Site::File { line, column, .. } = error.site {
                    assert!(line >= 1 && column >= 1 && line <= text.lines().count() + 1, "{error:?}");
                }
            }
            false
        }
    }
}

fn settings_of_file(text: &[u8]) -> Result<Settings, ConfigErrors> {
    // One each for tests that run at the same time.
    thread_local! {
        static FILE: PathBuf = {
            let name = format!("kache-fuzz-{}-{:?}.toml", std::process::id(), std::thread::current().id());
            std::env::temp_dir().join(name)
        };
    }
    let file = FILE.with(|file| file.to_string_lossy().into_owned());
    fs::write(&file, text).expect("there is a temporary directory");
    settings_of(Environment::new([("KACHE_CONFIG", file.as_str()), ("HOME", "/nonexistent")]))
}

fn settings_of(environment: Environment) -> Result<Settings, ConfigErrors> {
    let config = load(&ConfigSources { environment, current_dir: None })?;
    assert!(!list(&config).is_empty());
    Settings::new(&config)
}
