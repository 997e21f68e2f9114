//! The stages after the digest, together: a store, several checkouts, real files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kache_cas::{AccessKind, Digest, FileStamp};
use kache_proto::reapi::ActionResult;

use super::testing::{
    BLAKE3, BLOB_BYTES, Checkout, Disk, House, UNKNOWN_CRATES, full_action, look, shares_inodes, write,
};
use super::{Publication, Published, Refusal, amend_dep_info};
use crate::action::{Observation, Origin, OutputKind};
use crate::compile::{Captured, Exit, KnownFile, MessagePiece, MessageStream};
use crate::inputs::{FileState, Input, InputKind, World as _};
use crate::lookup::{
    DifferentBytes, Disagreement, LookupMiss, LookupOutcome, Uploads, action_key, find, release,
};
use crate::outputs::Staging;
use crate::outputs::dates::CONSTANT_DATE_S;
use crate::restore::RestoreError;
use crate::roles::{Role, RolePath};

const ONE_DATE: i64 = CONSTANT_DATE_S as i64;

fn stored(published: Published) -> super::Stored {
    match published {
        Published::Stored(stored) => stored,
        Published::Refused(refusal) => panic!("{refusal}"),
    }
}

fn refusal(published: Published) -> Refusal {
    match published {
        Published::Refused(refusal) => refusal,
        Published::Stored(_) => panic!("it was stored"),
    }
}

fn compile_and_publish(checkout: &Checkout<'_>, seed: &[u8]) {
    stored(checkout.publish(&checkout.compile(seed)));
}

#[test]
fn key_17_a_checkout_restores_the_result_of_another() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    assert_eq!(b.find(), LookupOutcome::Miss(LookupMiss::NewQuery));
    let stored = stored(a.publish(&a.compile(b"seed")));
    assert_eq!(stored.outputs.len(), 2, "the dep-info is each checkout's own");
    let is_known = |files: &[KnownFile]| {
        for KnownFile { path, digest, seen } in files {
            assert_eq!(*digest, Digest::of(BLAKE3, &fs::read(path).unwrap()), "{}", path.display());
            assert_eq!(*seen, Some(FileStamp::of(&fs::metadata(path).unwrap())), "{}", path.display());
        }
    };
    is_known(&stored.outputs);
    let restored = b.restore().unwrap();
    is_known(&restored.placed);
    for kind in [OutputKind::Metadata, OutputKind::Rlib] {
        assert_eq!(fs::read(a.output(kind)).unwrap(), fs::read(b.output(kind)).unwrap());
    }
    let said: Vec<u8> = restored.messages.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert_eq!(
        said,
        b.compile(b"seed").messages_on(MessageStream::Stderr),
        "the notices are this checkout's"
    );
    assert_eq!(restored.compile_time, Duration::from_secs(60));
    assert_eq!(restored.exit_code, 0);
}

#[test]
fn rst_06_a_restored_dep_info_has_the_paths_of_its_checkout() {
    let house = House::new();
    let (mut a, mut b) = (house.checkout("a b"), house.checkout("c"));
    for checkout in [&mut a, &mut b] {
        let gen_dir = checkout.ws.join("target/debug/build/x-2/out").display().to_string();
        write(&checkout.ws.join("src/lib.rs"), b"include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));");
        checkout.env = [("OUT_DIR".to_owned(), gen_dir)].into();
    }
    compile_and_publish(&a, b"seed");
    b.restore().unwrap();
    let restored = fs::read_to_string(b.output(OutputKind::DepInfo)).unwrap();
    b.compile(b"seed");
    assert_eq!(restored, fs::read_to_string(b.output(OutputKind::DepInfo)).unwrap());
    assert!(restored.contains(&*b.ws.to_string_lossy()) && !restored.contains("/kache/"));

    b.extra_dep_info = vec!["declared file".into()];
    b.restore().unwrap();
    let restored = fs::read_to_string(b.output(OutputKind::DepInfo)).unwrap();
    assert!(restored.contains("src/a.rs declared\\ file\n"), "{restored}");
}

#[test]
fn key_21_a_result_names_declared_inputs_even_if_the_client_continued_alone() {
    let house = House::new();
    let mut checkout = house.checkout("a");
    write(&checkout.ws.join("queries.sql"), b"select");
    let captured = checkout.compile(b"seed");
    let path = checkout.output(OutputKind::DepInfo);
    let before = fs::read(&path).unwrap();
    checkout.extra_dep_info = vec![checkout.ws.join("queries.sql")];
    let gone = Staging::new(Some(checkout.deps().join(".kache-gone")));
    assert!(amend_dep_info(&checkout.task(), &gone).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    stored(checkout.publish(&captured));
    checkout.restore().unwrap();
    let declared = checkout.ws.join("queries.sql").display().to_string();
    assert_eq!(fs::read_to_string(&path).unwrap().matches(&declared).count(), 4, "each once a rule");
}

#[test]
fn key_21_the_compilers_own_dep_info_names_declared_inputs() {
    let house = House::new();
    let mut checkout = house.checkout("a");
    write(&checkout.ws.join("queries.sql"), b"select");
    let captured = checkout.compile(b"seed");
    let path = checkout.output(OutputKind::DepInfo);
    let before = fs::read(&path).unwrap();
    let dir = checkout.deps().join(".kache-staging");
    fs::create_dir(&dir).unwrap();
    let staging = Staging::new(Some(dir.clone()));
    amend_dep_info(&checkout.task(), &staging).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    checkout.extra_dep_info = vec![checkout.ws.join("queries.sql")];
    amend_dep_info(&checkout.task(), &staging).unwrap();
    fs::remove_dir(dir).unwrap();
    let declared = checkout.ws.join("queries.sql").display().to_string();
    assert!(fs::read_to_string(&path).unwrap().contains(&format!("src/a.rs {declared}\n")));
    assert_eq!(look(&path).1, 0o644);
    stored(checkout.publish(&captured));
    checkout.restore().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().matches(&declared).count(), 4, "each once a rule");
}

#[test]
fn key_01_every_file_that_was_read_counts() {
    let house = House::new();
    let checkout = house.checkout("a");
    compile_and_publish(&checkout, b"seed");
    assert!(matches!(checkout.find(), LookupOutcome::Hit { .. }));
    write(&checkout.ws.join("src/a.rs"), b"// changed");
    let LookupOutcome::Miss(LookupMiss::Changed(differences)) = checkout.find() else {
        panic!("it has changed")
    };
    let path = RolePath::new(Role::Workspace, "src/a.rs").unwrap();
    let file = |bytes: &[u8]| Observation::File { path: path.clone(), digest: Digest::of(BLAKE3, bytes) };
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].before, file(b""));
    assert_eq!(differences[0].now, Some(file(b"// changed")));
}

#[test]
fn key_02_a_file_counts_with_its_path() {
    let house = House::new();
    let checkout = house.checkout("a");
    compile_and_publish(&checkout, b"seed");
    write(&checkout.ws.join("src/a.rs"), b"mod a;");
    write(&checkout.ws.join("src/lib.rs"), b"");
    let LookupOutcome::Miss(LookupMiss::Changed(differences)) = checkout.find() else {
        panic!("they were swapped")
    };
    assert_eq!(differences.len(), 2);
}

#[test]
fn key_03_a_miss_names_a_file_that_has_appeared() {
    let house = House::new();
    let checkout = house.checkout("a");
    compile_and_publish(&checkout, b"seed");
    write(&checkout.ws.join("src/a/mod.rs"), b"");
    let LookupOutcome::Miss(LookupMiss::Changed(differences)) = checkout.find() else {
        panic!("it has changed")
    };
    let path = RolePath::new(Role::Workspace, "src/a/mod.rs").unwrap();
    assert_eq!(differences[0].before, Observation::Absent { path });
}

#[test]
fn key_04_a_compile_without_a_valid_dep_info_is_not_stored() {
    let house = House::new();
    let mut checkout = house.checkout("a");
    let captured = checkout.compile(b"seed");
    let dep_info = checkout.output(OutputKind::DepInfo);
    let whole = fs::read(&dep_info).unwrap();
    write(&dep_info, &whole[..whole.len() - 3]);
    assert!(matches!(refusal(checkout.publish(&captured)), Refusal::UnknownInputs(_)));
    fs::remove_file(&dep_info).unwrap();
    assert!(matches!(refusal(checkout.publish(&captured)), Refusal::NoOutput(_)));
    checkout.kinds.remove(0);
    assert!(matches!(refusal(checkout.publish(&captured)), Refusal::UnknownInputs(_)));
    assert_eq!(checkout.find(), LookupOutcome::Miss(LookupMiss::NewQuery));
}

#[test]
fn key_05_a_compile_whose_input_changed_meanwhile_is_not_stored() {
    let house = House::new();
    let checkout = house.checkout("a");
    let source = checkout.ws.join("src/a.rs");
    // The file is written, gets an old date, is replaced by an older file, and is removed.
    let set_back = |path: &Path| {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(5)).unwrap();
    };
    let changes: [&dyn Fn(); 4] = [
        &|| fs::File::options().append(true).open(&source).unwrap().write_all(b"//").unwrap(),
        &|| {
            write(&source, b"// other");
            set_back(&source);
        },
        &|| {
            let other = checkout.ws.join("other.rs");
            write(&other, b"// another");
            set_back(&other);
            fs::rename(&other, &source).unwrap();
        },
        &|| fs::remove_file(&source).unwrap(),
    ];
    for change in changes {
        let captured = checkout.compile(b"seed");
        // Longer than a clock tick of the filesystem.
        std::thread::sleep(Duration::from_millis(30));
        change();
        assert_eq!(refusal(checkout.publish(&captured)), Refusal::Changed(source.clone()));
        write(&source, b"");
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(checkout.find(), LookupOutcome::Miss(LookupMiss::NewQuery));
    compile_and_publish(&checkout, b"seed");
}

/// A compile that ended more than a clock tick of the filesystem ago.
fn ended(captured: Captured) -> Captured {
    let wall = captured.started.elapsed().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    Captured { wall, ..captured }
}

#[test]
fn key_05_an_output_of_a_later_compile_is_not_stored() {
    let house = House::new();
    let checkout = house.checkout("a");
    for kind in [OutputKind::Metadata, OutputKind::Rlib] {
        let captured = ended(checkout.compile(b"seed"));
        let path = checkout.output(kind);
        let bytes = fs::read(&path).unwrap();
        write(&path, &bytes);
        assert_eq!(refusal(checkout.publish(&captured)), Refusal::Changed(path));
    }
    let captured = ended(checkout.compile(b"seed"));
    // cargo sets this date after a check.
    let metadata = fs::File::options().append(true).open(checkout.output(OutputKind::Metadata)).unwrap();
    metadata.set_modified(SystemTime::now()).unwrap();
    stored(checkout.publish(&captured));
}

#[test]
fn key_05_inputs_of_the_key_are_compared_again_after_the_compile() {
    let house = House::new();
    let checkout = house.checkout("a");
    let path = checkout.ws.join("target/debug/deps/libdep-2.rmeta");
    write(&path, b"before");
    let FileState::File { digest, is_executable } = Disk.state(&path).unwrap() else { panic!("a file") };
    let name = RolePath::new(Role::Target, "debug/deps/libdep-2.rmeta").unwrap();
    let input = Input { path: name, digest, is_executable, kind: InputKind::Extern };
    let captured = checkout.compile(b"seed");
    write(&path, b"after");
    let published = checkout.publish_inputs(&captured, std::slice::from_ref(&input));
    assert_eq!(refusal(published), Refusal::Changed(path.clone()));
    write(&path, b"before");
    stored(checkout.publish_inputs(&captured, &[input]));
}

#[test]
fn key_06_an_unset_variable_differs_from_an_empty_one() {
    let house = House::new();
    let mut checkout = house.checkout("a");
    let name = || "FEATURE".to_owned();
    for value in ["", "on"] {
        checkout.env = [(name(), value.to_owned())].into();
        compile_and_publish(&checkout, value.as_bytes().get(..1).unwrap_or(b"e"));
    }
    for (value, is_hit) in [(Some(""), true), (Some("on"), true), (Some("off"), false), (None, false)] {
        checkout.env = value.into_iter().map(|value| (name(), value.to_owned())).collect();
        assert_eq!(matches!(checkout.find(), LookupOutcome::Hit { .. }), is_hit, "{value:?}");
    }
}

#[test]
fn key_07_a_path_that_is_read_as_a_value_binds_the_result() {
    let house = House::new();
    let (mut a, mut b) = (house.checkout("a"), house.checkout("b"));
    for (source, is_shared) in [
        ("const A: &str = env!(\"OUT_DIR\");", false),
        ("include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));", true),
    ] {
        for checkout in [&mut a, &mut b] {
            write(&checkout.ws.join("src/lib.rs"), source.as_bytes());
            let value = checkout.ws.join("target/debug/build/x-2/out").display().to_string();
            checkout.env = [("OUT_DIR".to_owned(), value)].into();
        }
        compile_and_publish(&a, source.as_bytes());
        assert!(matches!(a.find(), LookupOutcome::Hit { .. }));
        assert_eq!(matches!(b.find(), LookupOutcome::Hit { .. }), is_shared, "{source}");
    }
}

#[test]
fn key_07_the_note_of_an_extern_is_found_by_its_content() {
    let locating = "macro_rules! gen { () => { include!(concat!(env!(\"OUT_DIR\"), \"/x\")) } }";
    let value = "macro_rules! dir { () => { env!(\"OUT_DIR\") } }";
    let including = "include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));";
    for (uses, source, is_shared) in [
        (Some(locating), "gen::gen!();", true),
        (Some(value), "gen::dir!();", false),
        (Some("fn silent() {}"), "gen::gen!();", false),
        (None, "gen::gen!();", false),
        (Some(value), including, false),
        (Some("fn silent() {}"), including, true),
        (None, including, false),
    ] {
        let house = House::new();
        let used = house.checkout("used");
        write(&used.ws.join("src/lib.rs"), uses.unwrap_or_default().as_bytes());
        let captured = used.compile(b"used");
        if uses.is_some() {
            stored(used.publish(&captured));
        }
        let (mut a, mut b) = (house.checkout("a"), house.checkout("b"));
        for checkout in [&mut a, &mut b] {
            write(&checkout.ws.join("src/lib.rs"), source.as_bytes());
            let value = checkout.ws.join("target/debug/build/x-2/out").display().to_string();
            checkout.env = [("OUT_DIR".to_owned(), value)].into();
        }
        let place = used.output(OutputKind::Metadata);
        let input = Input {
            path: a.task().roots.role_path(&a.ws, &place),
            digest: Digest::of(BLAKE3, &fs::read(&place).unwrap()),
            is_executable: false,
            kind: InputKind::Extern,
        };
        stored(a.publish_inputs(&a.compile(b"seed"), &[input]));
        assert!(matches!(a.find(), LookupOutcome::Hit { .. }));
        assert_eq!(matches!(b.find(), LookupOutcome::Hit { .. }), is_shared, "{uses:?}, {source}");
    }
}

#[test]
fn key_07_a_crate_with_an_unknown_dependency_gets_no_note() {
    let house = House::new();
    let (used, mut a, mut b) = (house.checkout("used"), house.checkout("a"), house.checkout("b"));
    let captured = used.compile(b"used");
    let unknown = |publication: &mut Publication<'_>| publication.locators = &UNKNOWN_CRATES;
    stored(used.publish_with(&captured, unknown).unwrap());
    for checkout in [&mut a, &mut b] {
        let source = b"include!(concat!(env!(\"OUT_DIR\"), \"/gen.rs\"));";
        write(&checkout.ws.join("src/lib.rs"), source);
        let value = checkout.ws.join("target/debug/build/x-2/out").display().to_string();
        checkout.env = [("OUT_DIR".to_owned(), value)].into();
    }
    let captured = a.compile(b"seed");
    stored(a.publish_with(&captured, unknown).unwrap());
    assert!(matches!(b.find(), LookupOutcome::Miss(LookupMiss::Changed(_))));
    stored(a.publish(&captured));
    assert!(matches!(b.find(), LookupOutcome::Hit { .. }));
}

#[test]
fn key_07_a_path_in_an_output_binds_the_result_to_it() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    let seed = format!("…{}/src/lib.rs", a.ws.display());
    compile_and_publish(&a, seed.as_bytes());
    assert!(matches!(a.find(), LookupOutcome::Hit { .. }));
    let LookupOutcome::Miss(LookupMiss::Changed(differences)) = b.find() else {
        panic!("it is another place")
    };
    let path = a.ws.as_os_str().as_encoded_bytes().to_vec();
    let bound = Observation::Root { role: Role::Workspace, up: 0, is_real: false, path };
    assert_eq!(differences[0].before, bound);
}

#[test]
fn key_07_a_text_that_contains_a_stand_in_is_refused() {
    let house = House::new();
    let mut checkout = house.checkout("a");
    checkout.env = [("DATA".to_owned(), "/kache/ws/data".to_owned())].into();
    let captured = checkout.compile(b"seed");
    assert!(matches!(refusal(checkout.publish(&captured)), Refusal::Unspeakable(_)));
}

#[test]
fn key_23_an_action_with_two_results_is_quarantined() {
    let house = House::new();
    let checkout = house.checkout("a");
    let action = stored(checkout.publish(&checkout.compile(b"seed"))).action;
    stored(checkout.publish(&checkout.compile(b"seed")));
    let captured = checkout.compile(b"seed");
    let rlib = checkout.output(OutputKind::Rlib);
    let mut bytes = fs::read(&rlib).unwrap();
    bytes[7_000] ^= 1;
    bytes[7_002] ^= 1;
    bytes.push(0);
    write(&rlib, &bytes);
    let different = DifferentBytes { offset: 7_000, count: 3 };
    let at = Disagreement { output: "out/debug/deps/libx-1.rlib".to_owned(), bytes: Some(different) };
    assert_eq!(refusal(checkout.publish(&captured)), Refusal::Disagrees(at.clone()));
    assert_eq!(checkout.find(), LookupOutcome::Miss(LookupMiss::Quarantined(action)));
    // A third run that agrees with one of them does not end the quarantine.
    let again = checkout.compile(b"seed");
    assert_eq!(refusal(checkout.publish(&again)), Refusal::Quarantined(at));
    assert!(release(house.store.actions(), &action).unwrap());
    stored(checkout.publish(&again));
    assert!(matches!(checkout.find(), LookupOutcome::Hit { .. }));
}

/// A directory has the path of the action's largest blob, so that the blob cannot be stored.
#[test]
fn sto_03_a_result_is_stored_after_the_blobs_of_its_action() {
    let house = House::new();
    let checkout = house.checkout("a");
    let captured = checkout.compile(b"seed");
    let text = "action".repeat(2_000);
    let action = full_action(text.clone()).unwrap();
    let (_, bytes) = action.blobs().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let name = BLAKE3.hash(&bytes).to_hex();
    let in_the_way = house.dir.path().join("store/blobs").join(&name[..2]).join(&name);
    fs::create_dir(&in_the_way).unwrap();
    assert!(checkout.publish_as(&text, &captured, &[]).is_err());
    let key = action_key(&action.digest);
    assert_eq!(house.store.actions().get(&key, AccessKind::Peek).unwrap(), None);

    fs::remove_dir(&in_the_way).unwrap();
    stored(checkout.publish_as(&text, &captured, &[]).unwrap());
    assert!(house.store.actions().get(&key, AccessKind::Peek).unwrap().is_some());
}

#[test]
fn a_lookup_names_the_action_whose_result_was_evicted() {
    let house = House::new();
    let checkout = house.checkout("a");
    let action = stored(checkout.publish(&checkout.compile(b"seed"))).action;
    house.store.actions().remove(&action_key(&action)).unwrap();
    assert_eq!(checkout.find(), LookupOutcome::Miss(LookupMiss::Evicted(action)));
}

#[test]
fn a_trail_keeps_the_observation_sets_of_earlier_runs() {
    let house = House::new();
    let checkout = house.checkout("a");
    for round in [&b"1"[..], b"2", b"3"] {
        write(&checkout.ws.join("src/a.rs"), round);
        compile_and_publish(&checkout, round);
    }
    for round in [&b"2"[..], b"1", b"3"] {
        write(&checkout.ws.join("src/a.rs"), round);
        checkout.restore().unwrap();
        assert!(fs::read(checkout.output(OutputKind::Rlib)).unwrap().starts_with(round));
    }
}

#[test]
fn rst_02_sharing_changes_nothing_in_another_checkout() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    compile_and_publish(&a, b"seed");
    let before: Vec<_> = a.kinds.iter().map(|kind| look(&a.output(*kind))).collect();
    let restored = b.restore().unwrap();
    let after: Vec<_> = a.kinds.iter().map(|kind| look(&a.output(*kind))).collect();
    assert_eq!(before, after);
    if shares_inodes(&house) {
        let (rlib, rmeta) = (OutputKind::Rlib, OutputKind::Metadata);
        assert_eq!(look(&a.output(rlib)), look(&b.output(rlib)));
        assert_eq!((look(&b.output(rlib)).1, look(&b.output(rlib)).2), (0o444, ONE_DATE));
        assert_ne!(look(&a.output(rmeta)).0, look(&b.output(rmeta)).0);
        assert!(look(&b.output(rmeta)).2 > ONE_DATE, "it speaks for the unit");
        assert_eq!(restored.shared_bytes, BLOB_BYTES as u64 / 4 * 4 + 4 + 4);
    }
}

#[test]
fn rst_03_a_shared_file_that_a_tool_changed_is_never_served() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    compile_and_publish(&a, b"seed");
    let rlib = a.output(OutputKind::Rlib);
    let original = fs::read(&rlib).unwrap();
    fs::set_permissions(&rlib, fs::Permissions::from_mode(0o644)).unwrap();
    fs::File::options().write(true).open(&rlib).unwrap().write_all(b"TOOL").unwrap();
    match b.restore() {
        Ok(_) => assert_eq!(fs::read(b.output(OutputKind::Rlib)).unwrap(), original),
        Err(_) => b.kinds.iter().for_each(|kind| assert!(!b.output(*kind).exists())),
    }
}

#[test]
fn rst_04_restored_files_have_the_modes_of_the_callers_umask() {
    let house = House::new();
    let kinds = vec![OutputKind::DepInfo, OutputKind::SharedLibrary, OutputKind::Executable];
    let mut a = house.checkout("a");
    a.kinds = kinds.clone();
    compile_and_publish(&a, b"seed");
    for umask in [0o022, 0o002, 0o077] {
        let mut b = house.checkout(&format!("umask {umask:o}"));
        (b.kinds, b.umask) = (kinds.clone(), umask);
        b.restore().unwrap();
        assert_eq!(look(&b.output(OutputKind::DepInfo)).1, 0o666 & !umask);
        assert_eq!(look(&b.output(OutputKind::SharedLibrary)).1, 0o777 & !umask);
        assert_eq!(look(&b.output(OutputKind::Executable)).1, 0o777 & !umask);
    }
}

/// The client has run the compiler itself meanwhile, so the outputs are those of the compiler.
#[test]
fn rst_05_a_late_restore_changes_nothing() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    compile_and_publish(&a, b"seed");
    let LookupOutcome::Hit { result, .. } = b.find() else { panic!("it was stored") };
    let dir = b.deps().join(".kache-staging");
    let staging = Staging::new(Some(dir.clone()));
    fs::create_dir(&dir).unwrap();
    b.lay_down_by(&result, &staging).unwrap();
    // The client lists the files that it removes when it continues alone.
    let listed = fs::read_to_string(dir.join("outputs")).unwrap();
    let mut listed: Vec<&str> = listed.split_terminator('\0').collect();
    listed.sort_unstable();
    let laid = fs::read_dir(b.deps()).unwrap().map(|entry| entry.unwrap().path());
    let mut laid: Vec<_> = laid.filter(|path| *path != dir).collect();
    laid.sort_unstable();
    assert_eq!(laid.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), listed);
    fs::remove_dir_all(&dir).unwrap();
    for path in laid {
        fs::remove_file(path).unwrap();
    }
    let made = b.deps().join("libseed.rlib");
    fs::File::create(&made).unwrap();
    assert!(matches!(b.lay_down_by(&result, &staging), Err(RestoreError::TooLate)));
    let lying = fs::read_dir(b.deps()).unwrap().count();
    assert_eq!((lying, fs::read(made).unwrap().len()), (1, 0));
    assert!(matches!(b.lay_down_by(&result, &Staging::default()), Err(RestoreError::NoStaging)));
}

#[test]
fn rst_05_a_restore_is_all_or_nothing() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    compile_and_publish(&a, b"seed");
    let LookupOutcome::Hit { result, .. } = b.find() else { panic!("it was stored") };
    let nothing_is_left = || {
        let left: Vec<_> = fs::read_dir(b.deps()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [] as [std::path::PathBuf; 0]);
    };
    let lay = |result: &ActionResult| b.lay_down(result);

    // The last blob is missing.
    let mut gone = result.clone();
    let missing: Digest = Digest::of(BLAKE3, &[7; BLOB_BYTES]);
    gone.output_files[2].digest = Some(kache_cas::encoding::wire_digest(&missing));
    assert!(matches!(lay(&gone), Err(RestoreError::Gone { .. })));
    nothing_is_left();
    // The result has one file more than the task, then one less.
    let mut more = result.clone();
    more.output_files.push(more.output_files[0].clone());
    more.output_files[3].path = "ws/src/lib.rs".to_owned();
    assert!(matches!(lay(&more), Err(RestoreError::Unexpected { .. })));
    let mut less = result.clone();
    less.output_files.remove(1);
    assert!(matches!(lay(&less), Err(RestoreError::Lacking { .. })));
    nothing_is_left();
    // A directory has the path of the last file.
    fs::create_dir(b.output(OutputKind::DepInfo)).unwrap();
    assert!(matches!(lay(&result), Err(RestoreError::Io { .. })));
    fs::remove_dir(b.output(OutputKind::DepInfo)).unwrap();
    nothing_is_left();
    lay(&result).unwrap();
}

#[test]
fn rst_07_restored_messages_have_the_paths_of_their_checkout() {
    let house = House::new();
    let (mut a, mut b) = (house.checkout("a"), house.checkout("b"));
    for checkout in [&mut a, &mut b] {
        let path = checkout.ws.join("target/gen.rs").display().to_string();
        checkout.stderr = format!("{{\"rendered\":\"warning\\n --> {path}:1:1\"}}\n");
    }
    compile_and_publish(&a, b"seed");
    let restored = b.restore().unwrap();
    let said: Vec<u8> = restored.messages.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
    assert_eq!(
        String::from_utf8(said).unwrap().as_bytes(),
        b.compile(b"seed").messages_on(MessageStream::Stderr)
    );
    b.presentation = b"short".to_vec();
    assert!(
        matches!(b.find(), LookupOutcome::Miss(LookupMiss::Changed(_))),
        "there are messages, and they look otherwise"
    );
}

#[test]
fn rst_07_a_compile_without_messages_is_restored_in_every_format() {
    let house = House::new();
    let (a, mut b) = (house.checkout("a"), house.checkout("b"));
    compile_and_publish(&a, b"seed");
    b.presentation = b"short".to_vec();
    assert!(matches!(b.find(), LookupOutcome::Hit { .. }));
}

#[test]
fn rst_10_failures_are_stored_for_probes_only() {
    let house = House::new();
    let mut checkout = house.checkout("a");
    checkout.kinds = vec![OutputKind::Metadata];
    let stderr = Bytes::from_static(b"rejected: no such feature\n");
    let captured = Captured {
        exit: Exit::Code(1),
        messages: vec![MessagePiece { stream: MessageStream::Stderr, bytes: stderr.clone() }],
        started: SystemTime::now(),
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
    };
    assert_eq!(refusal(checkout.publish(&captured)), Refusal::Failed);
    stored(checkout.publish_with(&captured, |publication| publication.keeps_failures = true).unwrap());
    let restored = checkout.restore().unwrap();
    assert_eq!((restored.exit_code, restored.messages[0].bytes.clone()), (1, stderr));
    let killed = Captured { exit: Exit::Signal(9), ..captured.clone() };
    let full =
        MessagePiece { stream: MessageStream::Stderr, bytes: Bytes::from_static(b"error: no space left\n") };
    let no_verdict = Captured { messages: vec![full], ..captured };
    for captured in [killed, no_verdict] {
        let published = checkout.publish_with(&captured, |publication| publication.keeps_failures = true);
        assert_eq!(refusal(published.unwrap()), Refusal::Failed);
    }
}

#[test]
fn rst_12_no_output_is_dated_in_the_future() {
    let house = House::new();
    let (a, b) = (house.checkout("a"), house.checkout("b"));
    compile_and_publish(&a, b"seed");
    b.restore().unwrap();
    for kind in &b.kinds {
        let modified = fs::metadata(b.output(*kind)).unwrap().modified().unwrap();
        assert!(modified <= SystemTime::now());
    }
}

/// An immutable package with a build script, as cargo lays it out.
fn with_build_script<'h>(house: &'h House, name: &str, output: &str) -> Checkout<'h> {
    let mut checkout = house.checkout(name);
    checkout.origin = Origin::Immutable;
    let build = checkout.ws.join("target/debug/build");
    let executable = build.join("x-1111111111111111/build-script-build");
    write(&executable, b"executable");
    date(&executable);
    let instructions = output.replace("{cargo}", &checkout.cargo.display().to_string());
    write(&build.join("x-2222222222222222/output"), instructions.as_bytes());
    checkout.build_script_output = Some(build.join("x-2222222222222222/output"));
    checkout
}

fn date(path: &Path) {
    let one_date = SystemTime::UNIX_EPOCH + Duration::from_secs(CONSTANT_DATE_S);
    fs::File::options().append(true).open(path).unwrap().set_modified(one_date).unwrap();
}

#[test]
fn rst_01_rst_02_all_outputs_of_an_immutable_package_have_one_date() {
    let house = House::new();
    if !shares_inodes(&house) {
        return;
    }
    let harmless = "cargo:rerun-if-changed=build.rs\ncargo::rerun-if-changed={cargo}/registry/src/x\n";
    let (a, b) = (with_build_script(&house, "a", harmless), with_build_script(&house, "b", harmless));
    compile_and_publish(&a, b"seed");
    b.restore().unwrap();
    for kind in [OutputKind::Metadata, OutputKind::Rlib] {
        assert_eq!(look(&a.output(kind)), look(&b.output(kind)));
        assert_eq!(look(&b.output(kind)).2, ONE_DATE);
    }
    assert_eq!(look(&b.output(OutputKind::Metadata)).1, 0o644, "rustc refuses to replace it otherwise");
    assert_eq!(look(b.build_script_output.as_ref().unwrap()).2, ONE_DATE);
    assert_ne!(look(&a.output(OutputKind::DepInfo)).0, look(&b.output(OutputKind::DepInfo)).0);
}

#[test]
fn rst_01_a_unit_with_a_newer_dependency_has_the_current_date() {
    let house = House::new();
    if !shares_inodes(&house) {
        return;
    }
    let a = with_build_script(&house, "a", "");
    compile_and_publish(&a, b"seed");
    let is_dated_now = |checkout: &Checkout<'_>, why: &str| {
        checkout.restore().unwrap();
        assert!(look(&checkout.output(OutputKind::Metadata)).2 > ONE_DATE, "{why}");
        checkout.kinds.iter().for_each(|kind| fs::remove_file(checkout.output(*kind)).unwrap());
    };
    for (number, outside) in ["/usr/include/zlib.h", "../../../x", "{cargo}/../x"].iter().enumerate() {
        let instructions = format!("cargo:rerun-if-changed={outside}");
        let b = with_build_script(&house, &format!("outside {number}"), &instructions);
        is_dated_now(&b, outside);
        assert!(look(b.build_script_output.as_ref().unwrap()).2 > ONE_DATE);
    }
    let mut b = with_build_script(&house, "b", "");
    let executable = b.ws.join("target/debug/build/x-1111111111111111/build-script-build");
    write(&executable, b"recompiled");
    is_dated_now(&b, "the build script is younger");
    date(&executable);

    let dependency = b.ws.join("target/debug/deps/liby-1.rlib");
    write(&dependency, b"y");
    b.depends_on = vec![dependency.clone()];
    is_dated_now(&b, "an extern is younger");
    date(&dependency);
    write(&dependency.with_extension("rmeta"), b"y");
    is_dated_now(&b, "the metadata beside an extern is younger");
    date(&dependency.with_extension("rmeta"));

    write(&b.output(OutputKind::DepInfo), b"");
    is_dated_now(&b, "the unit was made here before, perhaps differently");

    b.restore().unwrap();
    assert_eq!(look(&b.output(OutputKind::Metadata)).2, ONE_DATE);
}

#[test]
fn rst_01_the_metadata_of_a_check_is_not_shared() {
    let house = House::new();
    let mut checkouts = [house.checkout("a"), house.checkout("b")];
    for checkout in &mut checkouts {
        checkout.origin = Origin::Immutable;
        checkout.kinds = vec![OutputKind::DepInfo, OutputKind::Metadata];
    }
    let [a, b] = checkouts;
    compile_and_publish(&a, b"seed");
    b.restore().unwrap();
    let inodes = [&a, &b].map(|checkout| look(&checkout.output(OutputKind::Metadata)).0);
    assert_ne!(inodes[0], inodes[1]);
}

#[test]
fn sto_08_a_file_that_cannot_be_read_is_an_error_and_no_match() {
    struct Blind;
    impl crate::inputs::World for Blind {
        fn state(&self, path: &Path) -> Result<FileState, crate::inputs::WorldError> {
            let source = std::io::Error::other("no answer");
            Err(crate::inputs::WorldError { path: path.to_owned(), source })
        }
        fn listing(&self, _path: &Path) -> Result<Option<Digest>, crate::inputs::WorldError> {
            Ok(None)
        }
        fn link(&self, _path: &Path) -> Result<Option<Vec<u8>>, crate::inputs::WorldError> {
            Ok(None)
        }
    }
    let house = House::new();
    let checkout = house.checkout("a");
    compile_and_publish(&checkout, b"seed");
    let nothing = std::collections::BTreeMap::new();
    let found = find(&checkout.task(), &nothing, &Blind, house.store.actions(), Uploads::Ignored);
    assert!(found.is_err());
    assert!(matches!(checkout.find(), LookupOutcome::Hit { .. }), "nothing was deleted");
}
