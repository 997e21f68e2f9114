//! The client starts for every compile, so a build pays 250 times for what the client links.
//!
//! It is compared with the engine, which is built in the same way and measured in the same run, so that the test
//! works on any machine and in any profile.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CLIENT: &str = env!("CARGO_BIN_EXE_kache");
const ENGINE: &str = env!("CARGO_BIN_EXE_kached");

/// Words that only the engine's code contains: paths in its panics, names in its strings, a library that it loads.
const HEAVY: &[&str] = &["rocksdb", "/tokio-1", "/clap_builder-4", "/hyper-1", "/rustls-0", "libstdc++"];

/// The client has at most this fraction of the engine's size. It has about a sixth before symbols are stripped.
const SIZE_PARTS: u64 = 3;

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn the_client_links_nothing_heavy() {
    let (client, engine) = (fs::read(CLIENT).unwrap(), fs::read(ENGINE).unwrap());
    for word in HEAVY {
        assert!(!contains(&client, word), "`{word}` is in the client");
    }
    for word in ["rocksdb", "/tokio-1", "/clap_builder-4", "libstdc++"] {
        assert!(contains(&engine, word), "`{word}` is not in the engine, so looking for it proves nothing");
    }
}

#[test]
fn the_client_is_a_fraction_of_the_engine() {
    let size = |path| fs::metadata(path).unwrap().len();
    let (client, engine) = (size(CLIENT), size(ENGINE));
    assert!(client * SIZE_PARTS < engine, "the client has {client} bytes, the engine {engine}");
}

/// Compares the fastest start of the client, plus the fastest start of `true`, with that of the engine. The fastest
/// of many starts is the program's own cost without load on the machine; the start of `true` is an allowance for a
/// busy machine. A client that costs more is slower in every try.
#[test]
fn the_client_starts_faster_than_the_engine() {
    const TRIES: usize = 8;
    let mut last = None;
    let is_faster = (0..TRIES).any(|_| {
        let (client, engine) = fastest();
        last = Some((client, engine));
        client < engine
    });
    assert!(is_faster, "the client and the engine take {last:?}");
}

fn run(program: &str, arg: &str) {
    let status = Command::new(program).arg(arg).env_clear().stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
}

/// The fastest starts of the client and the engine, measured in turns.
fn fastest() -> (Duration, Duration) {
    let once = |program, arg| {
        let begun = Instant::now();
        run(program, arg);
        begun.elapsed()
    };
    let both = |_| (once(CLIENT, "/bin/true"), once(ENGINE, "--version"));
    let (clients, engines): (Vec<_>, Vec<_>) = (0..30).map(both).unzip();
    let least = |times: Vec<Duration>| times.into_iter().min().expect("there were thirty");
    (least(clients), least(engines))
}
