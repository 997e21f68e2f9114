//! The daemon and its store: what survives restarts, and what is reported if the store cannot be opened (STO-07).

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use sha2::Digest as _;

use crate::home::{Home, eventually, is_alive, signal};

fn status(home: &Home) -> serde_json::Value {
    serde_json::from_str(&home.run(&["daemon", "status", "--json"]).stdout).unwrap()
}

/// The daemon's TCP address.
fn address(home: &Home) -> String {
    status(home)["listening"][1].as_str().unwrap().to_owned()
}

/// Makes one HTTP request. Returns the status code and the body.
fn http(address: &str, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), answer.split_off(end + 4))
}

fn cas_path(bytes: &[u8]) -> String {
    let hash: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("/cas/{hash}")
}

#[test]
fn dmn_06_results_and_their_counts_survive_restarts() {
    let home = Home::new().with("KACHE_SERVE_LISTEN", "127.0.0.1:0");
    home.start();
    let blobs = [b"small".to_vec(), vec![b'x'; 300_000]];
    for blob in &blobs {
        let (code, _) = http(&address(&home), "PUT", &cas_path(blob), blob);
        assert!((200..300).contains(&code), "{code}");
    }
    let before = status(&home)["store"].clone();
    assert_eq!((before["blobs"].as_u64(), before["logical_bytes"].as_u64()), (Some(2), Some(300_005)));
    home.run(&["daemon", "restart"]).expect(0, &[]);
    let after = status(&home)["store"].clone();
    assert_eq!((&after["blobs"], &after["logical_bytes"]), (&before["blobs"], &before["logical_bytes"]));
    for blob in &blobs {
        assert_eq!(http(&address(&home), "GET", &cas_path(blob), b""), (200, blob.clone()));
    }
}

#[test]
fn sto_01_a_blob_that_was_stored_before_a_crash_is_complete_or_absent() {
    let home = Home::new().with("KACHE_SERVE_LISTEN", "127.0.0.1:0");
    let pid = home.start();
    let blob = vec![b'y'; 300_000];
    http(&address(&home), "PUT", &cas_path(&blob), &blob);
    signal(pid, Signal::SIGKILL);
    eventually("dying", || !is_alive(pid));
    home.start();
    let (code, body) = http(&address(&home), "GET", &cas_path(&blob), b"");
    assert!(code == 404 || (code, &body) == (200, &blob), "{code} {}", body.len());
}

#[test]
fn sto_07_requests_do_not_wait_for_a_store_that_cannot_be_opened() {
    let home = Home::new();
    fs::write(home.path().join("file"), "").unwrap();
    let home = home.with("KACHE_CACHE_DIR", "file/cache").with("KACHE_SERVE_LISTEN", "127.0.0.1:0");
    home.run(&["daemon", "start"]).expect(4, &[]);
    let shown = home.run(&["daemon", "status", "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let mut stream = TcpStream::connect(shown["listening"][1].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let answer = stream.read(&mut [0; 1]);
    let is_closed = match &answer {
        Ok(0) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => false,
    };
    assert!(is_closed, "the connection is neither served nor closed: {answer:?}");
}

#[test]
fn sto_07_a_store_that_cannot_be_opened_is_reported() {
    let home = Home::new();
    fs::write(home.path().join("file"), "").unwrap();
    let home = home.with("KACHE_CACHE_DIR", "file/cache");
    home.run(&["daemon", "start"]).expect(4, &["warning: failed to ", "file/cache"]);
    let shown = home.run(&["daemon", "status"]).expect(4, &[]).stdout;
    assert!(shown.contains("(unusable)") && shown.contains("  problem    failed to "), "{shown}");
    // When the store can be opened, it is used.
    fs::remove_file(home.path().join("file")).unwrap();
    eventually("opening", || home.run(&["daemon", "status"]).code == 0);
    home.run(&["daemon", "stop"]).expect(0, &[]);
}

#[test]
fn sto_09_a_store_of_a_newer_kache_is_reported_and_not_changed() {
    let home = Home::new();
    home.start();
    home.run(&["daemon", "stop"]).expect(0, &[]);
    let version = home.path().join(".cache/kache/VERSION");
    fs::write(&version, "kache store 999\n").unwrap();
    home.run(&["daemon", "start"]).expect(4, &["999"]);
    home.run(&["daemon", "stop"]).expect(0, &[]);
    assert_eq!(fs::read_to_string(&version).unwrap(), "kache store 999\n");
}

/// Two daemons can only use one store if the sockets of one of them were moved.
#[test]
fn a_store_that_another_daemon_uses_is_reported_until_it_is_free() {
    let first = Home::new();
    let pid = first.start();
    let cache = first.path().join(".cache/kache");
    let second = Home::new().with("KACHE_CACHE_DIR", cache.to_str().unwrap());
    second.run(&["daemon", "start"]).expect(4, &["the store at `"]);
    first.run(&["daemon", "stop"]).expect(0, &[]);
    eventually("ending", || !is_alive(pid));
    eventually("opening", || second.run(&["daemon", "status"]).code == 0);
    second.run(&["daemon", "stop"]).expect(0, &[]);
}

#[test]
fn a_daemon_whose_store_is_removed_ends_so_that_a_new_one_can_start() {
    let home = Home::new();
    let pid = home.start();
    fs::remove_dir_all(home.path().join(".cache/kache")).unwrap();
    eventually("leaving", || !is_alive(pid));
    let log = home.run(&["daemon", "log"]).expect(0, &[]).stdout;
    assert!(log.contains("leaving: its store is gone"), "{log}");
    assert_ne!(home.start(), pid);
    home.run(&["daemon", "status"]).expect(0, &[]);
}

#[test]
fn a_stopping_daemon_finishes_requests_in_progress() {
    let home = Home::new().with("KACHE_SERVE_LISTEN", "127.0.0.1:0");
    let pid = home.start();
    let (address, blob) = (address(&home), vec![b'z'; 300_000]);
    let mut upload = TcpStream::connect(&address).unwrap();
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
        cas_path(&blob),
        blob.len()
    );
    upload.write_all(head.as_bytes()).unwrap();
    upload.write_all(&blob[..100_000]).unwrap();
    eventually("arriving", || status(&home)["requests_in_flight"] == 1);
    signal(pid, Signal::SIGTERM);
    eventually("listening no more", || TcpStream::connect(&address).is_err());
    assert!(is_alive(pid), "it waits for the rest");
    upload.write_all(&blob[100_000..]).unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    eventually("leaving", || !is_alive(pid));
    home.start();
    assert_eq!(status(&home)["store"]["blobs"], 1);
}
