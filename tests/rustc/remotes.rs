//! Remotes: what one machine has compiled, another one fetches.
//!
//! Two homes stand for two machines: users, caches, daemons and paths differ.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::credentials::expect_no_credential;
use crate::home::{Home, eventually};
use crate::machines::{
    PATIENCE, PROGRAM, RemoteSetup, expect_filled, expect_no_secret_on, expect_same_program, files_below,
    fill, from_one_machine_to_another, machine, machine_with, uploads_waiting, wait_for_uploads,
};
use crate::project::{self, PRINTS};
use crate::tree::Tree;
use crate::unit::Unit;

/// A machine with the default limits of remotes, and a workspace on it.
fn impatient_machine(name: &str, url: &str, other: Option<&Home>) -> (Home, Tree) {
    let home = Home::without_daemon().of_user(name).with("KACHE_REMOTE", url);
    let home = match other {
        Some(other) => home.with_registry_of(other),
        None => home,
    };
    home.start();
    let tree = project::mini(&home, &format!("{name}/ws"));
    (home, tree)
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
    let url = url_of(folder.path());
    from_one_machine_to_another(&url, &url);
    assert!(folder.path().join("ac").is_dir());
}

#[test]
fn net_02_a_server_of_actions_brings_results_to_another_machine() {
    let (_server, port) = server();
    let url = format!("grpc://127.0.0.1:{port}");
    from_one_machine_to_another(&url, &url);
}

#[test]
fn net_02_a_server_of_bazels_http_cache_brings_results_to_another_machine() {
    let (_server, port) = server();
    let url = format!("http://127.0.0.1:{port}");
    from_one_machine_to_another(&url, &url);
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
                thread::park();
            }
            if line == "\r\n"
                && stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_err()
            {
                return;
            }
            line.clear();
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    url
}

#[test]
fn net_04_a_build_ends_while_its_uploads_hang() {
    let (home, tree) = impatient_machine("alone", &server_that_hangs_on_uploads(), None);
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
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (objects, stalls) = (Arc::clone(&objects), Arc::clone(&stalls));
            thread::spawn(move || serve(stream, &objects, &stalls));
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
            thread::park();
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
    let (first, tree) = impatient_machine("first", &url, None);
    first.cargo(&tree, &["build", "--workspace"]).ok();
    wait_for_uploads(&first);
    stalls.store(true, Ordering::Relaxed);
    let (second, other) = impatient_machine("second", &url, Some(&first));
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
    let home = Home::without_daemon().with("KACHE_REMOTE", &url);
    home.start();
    let tree = project::mini(&home, "ws");
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    let second = project::mini(&home, "second/ws");
    home.cargo(&second, &["build", "--workspace"]).ok().expect_all_hits();
    // Every page names the remote and the cause.
    let prints = |args: &[&str]| home.kache(args).ok_unwatched().stdout;
    for args in [&["report"][..], &["report", "--format", "markdown"], &["report", "--format", "json"]] {
        let page = prints(args).replace('\\', "");
        assert!(page.contains(&url) && page.contains("Connection refused"), "{page}");
    }
    let (stats, doctor) = (prints(&["stats"]), prints(&["doctor"]));
    assert!(stats.contains(&format!("went on without {url}: ")), "{stats}");
    assert!(stats.contains(&format!("{url} is not used until it answers again: ")), "{stats}");
    assert!(doctor.contains(&format!("builds go on without `{url}` until it answers again: ")), "{doctor}");
}

/// The URL of a folder.
fn url_of(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

#[test]
fn net_02_a_blob_with_other_bytes_of_the_same_length_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let (first, tree) = fill(&url);
    for path in files_below(&folder.path().join("cas")) {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let second = machine("second-with-a-longer-name", &url, Some(&first));
    let other = project::mini(&second, "second/ws");
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    built.expect_each_compiled_once();
    assert_eq!(built.calls.crates("remote_hit"), [""; 0]);
    expect_same_program(&tree, &other);
    // What the second machine has compiled has taken the place of the damaged blobs.
    wait_for_uploads(&second);
    expect_filled(&url, &(first, tree), "third");
}

#[test]
fn net_05_blobs_that_a_remote_has_lost_are_compiled_and_uploaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let first = fill(&url);
    for path in files_below(&folder.path().join("cas")).iter().step_by(2) {
        fs::remove_file(path).unwrap();
    }
    let second = machine("second-with-a-longer-name", &url, Some(&first.0));
    let other = project::mini(&second, "second/ws");
    let built = second.cargo(&other, &["build", "--workspace"]).ok();
    assert!(!built.calls.crates("miss").is_empty(), "nothing was lost: {built:#?}");
    expect_same_program(&first.1, &other);
    wait_for_uploads(&second);
    expect_filled(&url, &first, "third");
}

#[test]
fn net_05_a_remote_that_is_only_written_to_gets_results() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let first = machine_with("first", &format!("url = \"{url}\"\naccess = \"write\""), None);
    let tree = project::mini(&first, "ws");
    first.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    wait_for_uploads(&first);
    expect_filled(&url, &(first, tree), "second-with-a-longer-name");
}

/// Builds on a machine that uses two remotes, of which only the second one has the results, and then on one that
/// uses only the first.
fn expect_copied_up(fast_url: &str, slow_url: &str) {
    let first = fill(slow_url);
    let both = format!("url = \"{fast_url}\"\n{PATIENCE}[[remote]]\nurl = \"{slow_url}\"");
    let second = machine_with("second", &both, Some(&first.0));
    let tree = project::mini(&second, "second/ws");
    second.cargo(&tree, &["build", "--workspace"]).ok().expect_all_hits();
    wait_for_uploads(&second);
    second.stop();
    expect_filled(fast_url, &first, "third");
}

#[test]
fn what_a_slower_remote_has_is_copied_to_a_faster_one() {
    let [fast, slow] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    expect_copied_up(&url_of(fast.path()), &url_of(slow.path()));
}

#[test]
fn what_a_slower_remote_has_is_copied_to_a_faster_one_with_other_digests() {
    let (_server, port) = server();
    let folder = tempfile::tempdir().unwrap();
    expect_copied_up(&url_of(folder.path()), &format!("grpc://127.0.0.1:{port}"));
}

#[test]
fn net_06_a_shared_folder_holds_no_secret_of_a_compile() {
    let folder = tempfile::tempdir().unwrap();
    expect_no_secret_on(&url_of(folder.path()), folder.path());
}

#[test]
fn net_06_credentials_are_nowhere() {
    let (server, port) = server();
    let url = format!("grpc://127.0.0.1:{port}");
    let remote = RemoteSetup::from(&url)
        .line("token = \"hunter2-in-a-token\"")
        .variable("KACHE_REMOTE_HEADER", "x-api-key=hunter2-in-a-header");
    expect_no_credential(remote, &["hunter2-in-a-token", "hunter2-in-a-header"], server.base());
}

/// Compiles a program once for each state of one of its files. Returns the results of the calls.
fn compile_states(home: &Home, states: Range<u32>) -> Vec<String> {
    let tree = home.tree("ws");
    tree.write("src/states.rs", "mod state; fn main() { println!(\"{}\", state::STATE) }");
    let unit = Unit::bin(home, &tree, "states");
    let compile = |state: u32| {
        tree.write("src/state.rs", format!("pub const STATE: u32 = {state};"));
        let result = unit.kache().ok().only_call().result.clone();
        assert_eq!(tree.prints(unit.output("").to_str().unwrap()), state.to_string());
        result
    };
    states.map(compile).collect()
}

#[test]
fn net_03_twenty_states_of_a_file_from_two_machines_at_once_are_all_found() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let fill = |name: &'static str, states: Range<u32>| {
        let home = machine(name, &url, None);
        thread::spawn(move || {
            assert_eq!(compile_states(&home, states), ["miss"; 10]);
            wait_for_uploads(&home);
        })
    };
    let both = [fill("first", 100..110), fill("second-with-a-longer-name", 110..120)];
    both.into_iter().for_each(|filling| filling.join().unwrap());
    for name in ["third", "fourth-machine"] {
        let home = machine(name, &url, None);
        assert_eq!(compile_states(&home, 100..120), ["remote_hit"; 20]);
    }
}
