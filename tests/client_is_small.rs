//! The client is started for every compile: what it links is paid for 250 times a build.
//!
//! It is compared with the engine, built alike and in the same run, so that the numbers mean
//! something on any machine and in any profile.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CLIENT: &str = env!("CARGO_BIN_EXE_kache");
const ENGINE: &str = env!("CARGO_BIN_EXE_kached");

/// What only the engine is made of, as its code appears in a program: by the paths in its
/// panics, the names in its strings, the library it loads.
const HEAVY: &[&str] = &["rocksdb", "/tokio-1", "/clap_builder-4", "/hyper-1", "/rustls-0", "libstdc++"];

/// At most this part of the engine's size. It is about a sixth, before anything is stripped.
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

/// The client's fastest start, with the start of `true` on top, is faster than the engine's.
/// The fastest of many is what the program costs; the rest is the machine's, of which one that is
/// busy leaves something even there. A client that costs more is slower each time it is tried.
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

/// Of the client and of the engine, by turns.
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
