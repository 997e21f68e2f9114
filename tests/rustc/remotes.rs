//! Remotes: what one machine has compiled, another one fetches.
//!
//! Two homes stand for two machines: users, caches, daemons and paths differ.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::home::{Home, eventually};
use crate::project::{self, PRINTS};
use crate::tree::Tree;

/// The program of the workspace that both machines build.
const PROGRAM: &str = "target/debug/app";

/// A machine that uses this remote. Its directories have another length than those of other machines.
fn machine(name: &str, url: &str, registry: Option<&Home>) -> (Home, Tree) {
    let home = Home::without_daemon().of_user(name).with("KACHE_REMOTE", url);
    let home = match registry {
        Some(other) => home.with_registry_of(other),
        None => home,
    };
    home.start();
    let tree = project::mini(&home, &format!("{name}/ws"));
    (home, tree)
}

/// The number of uploads that wait for the machine's remote or are under way; `None` if no remote was used.
fn uploads_waiting(home: &Home) -> Option<u64> {
    let status = home.kache(&["daemon", "status", "--json"]).ok_unwatched();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    status["remotes"][0]["uploads_waiting"].as_u64()
}

/// Waits until everything that a machine has compiled is on its remote.
fn wait_for_uploads(home: &Home) {
    eventually("the end of all uploads", || uploads_waiting(home) == Some(0));
}

/// Builds on one machine and then on another, and asserts that the second one starts no compiler.
fn from_one_machine_to_another(url: &str) {
    let (first, tree) = machine("first", url, None);
    first.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    wait_for_uploads(&first);
    first.stop();

    let (second, other) = machine("second-with-a-longer-name", url, Some(&first));
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    built.expect_all_hits();
    assert_eq!(other.prints(PROGRAM), PRINTS);
    // What was fetched is in the store: no remote is needed any more.
    let third = project::mini(&second, "third/ws");
    second.cargo(&third, &["build", "--workspace"]).env("KACHE_LOCAL_ONLY", "1").ok().expect_all_hits();
    let program = |tree: &Tree| fs::read(tree.path().join(PROGRAM)).unwrap();
    assert!(program(&tree) == program(&other), "the program has other bytes");
}

/// A daemon that serves others, with its port.
fn server() -> (Home, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let home = Home::without_daemon().with("KACHE_SERVE_LISTEN", &format!("127.0.0.1:{port}"));
    home.start();
    eventually("the port's listener", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (home, port)
}

#[test]
fn net_02_a_shared_folder_brings_results_to_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    from_one_machine_to_another(&format!("file://{}", folder.path().display()));
    assert!(Path::new(folder.path()).join("ac").is_dir());
}

#[test]
fn net_02_a_server_of_actions_brings_results_to_another_machine() {
    let (_server, port) = server();
    from_one_machine_to_another(&format!("grpc://127.0.0.1:{port}"));
}

#[test]
fn net_02_a_server_of_bazels_http_cache_brings_results_to_another_machine() {
    let (_server, port) = server();
    from_one_machine_to_another(&format!("http://127.0.0.1:{port}"));
}

/// An HTTP cache that has nothing, and takes a body without ever answering. Returns its URL.
fn server_that_hangs_on_uploads() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = |mut stream: TcpStream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.starts_with("PUT") {
                std::thread::park();
            }
            if line == "\r\n"
                && stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err()
            {
                return;
            }
            line.clear();
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    url
}

#[test]
fn net_04_a_build_ends_while_its_uploads_hang() {
    let (home, tree) = machine("alone", &server_that_hangs_on_uploads(), None);
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    assert!(uploads_waiting(&home) > Some(0));
    let second = project::mini(&home, "second/ws");
    home.cargo(&second, &["build", "--workspace"]).ok().expect_all_hits();
}

/// An HTTP cache in memory. Returns its URL, and a switch: while it is on, the body of a blob ends in the middle
/// and the connection stays open.
fn server_that_may_stall() -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (objects, stalls) = (Arc::<Mutex<HashMap<String, Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
    let switch = Arc::clone(&stalls);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (objects, stalls) = (Arc::clone(&objects), Arc::clone(&stalls));
            std::thread::spawn(move || serve(stream, &objects, &stalls));
        }
    });
    (url, switch)
}

fn serve(mut stream: TcpStream, objects: &Mutex<HashMap<String, Vec<u8>>>, stalls: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some((method, path, body)) = read_request(&mut reader) {
        let found = match method.as_str() {
            "PUT" => {
                objects.lock().insert(path.clone(), body);
                Some(Vec::new())
            }
            _ => objects.lock().get(&path).cloned(),
        };
        let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
        let found = found.unwrap_or_default();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", found.len());
        stream.write_all(head.as_bytes()).unwrap();
        if method == "GET" && path.starts_with("/cas/") && !found.is_empty() && stalls.load(Ordering::Relaxed)
        {
            stream.write_all(&found[..found.len() / 2]).unwrap();
            std::thread::park();
        }
        if method != "HEAD" && stream.write_all(&found).is_err() {
            return;
        }
    }
}

/// Reads the method, the path and the body of a request; `None` at the end of the connection.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String, Vec<u8>)> {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.to_ascii_lowercase().strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().ok()?,
            None if line == "\r\n" => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = first.split(' ').map(str::to_owned);
    Some((words.next()?, words.next()?, body))
}

#[test]
fn net_01_a_remote_that_stalls_in_a_download_costs_a_build_its_stall_time_once() {
    let (url, stalls) = server_that_may_stall();
    let (first, tree) = machine("first", &url, None);
    first.cargo(&tree, &["build", "--workspace"]).ok();
    wait_for_uploads(&first);
    stalls.store(true, Ordering::Relaxed);
    let (second, other) = machine("second", &url, Some(&first));
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    assert_eq!(other.prints(PROGRAM), PRINTS);
    // The calls that wait when the first one finds out have begun within its stall time of two seconds.
    let asking = Duration::from_millis(1_500);
    let late = built.calls.compiles().filter(|call| call.remote > asking).count();
    assert!((1..=2).contains(&late), "{built:#?}");
    let longest = built.calls.compiles().map(|call| call.remote).max().unwrap();
    assert!(longest < Duration::from_secs(5), "{built:#?}");
}

#[test]
fn net_01_a_remote_that_is_down_costs_a_build_nothing_but_a_moment() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("grpc://127.0.0.1:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let (home, tree) = machine("alone", &url, None);
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    let second = project::mini(&home, "second/ws");
    home.cargo(&second, &["build", "--workspace"]).ok().expect_all_hits();
}
