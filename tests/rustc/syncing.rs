//! `kache sync`: copies results between the store and a remote when the user asks for it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::home::{Home, eventually};
use crate::machines::{fill, machine, machine_with, uploads_waiting};
use crate::project;
use crate::step::Built;
use crate::tree::Tree;

fn url_of(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// Runs `kache sync` in a worktree.
fn sync(home: &Home, tree: &Tree, args: &[&str]) -> Built {
    let manifest = tree.join("Cargo.toml");
    let args = [&["sync"], args, &["--manifest-path", manifest.to_str().unwrap()]].concat();
    home.kache(&args).run_unwatched()
}

/// Asserts that a sync has copied everything, and returns the number in what it printed.
fn copied(done: &Built, words: &str) -> u64 {
    assert!(done.code == Some(0) && done.stderr.lines().all(|line| line.contains(" of ")), "{done:?}");
    let line = done.stdout.lines().find_map(|line| line.strip_prefix(words));
    let line = line.unwrap_or_else(|| panic!("`{words}` is not in {done:?}"));
    line.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn a_workspace_that_was_pulled_is_built_without_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let (first, first_tree) = fill(&url);
    first.start();
    // The list of what the build has used follows the build, and a sync waits for it.
    copied(&sync(&first, &first_tree, &["--push"]), "uploaded ");

    let second = machine("second", &url, Some(&first));
    let tree = project::mini(&second, "second/ws");
    let would = copied(&sync(&second, &tree, &["--pull", "--dry-run"]), "would fetch ");
    assert!(would > 0);
    let fetched = copied(&sync(&second, &tree, &["--pull"]), "fetched ");
    assert_eq!(fetched, would);
    assert_eq!(copied(&sync(&second, &tree, &["--pull"]), "fetched "), 0, "a second pull has nothing to do");
    fs::remove_dir_all(folder.path()).unwrap();
    second.cargo(&tree, &["build", "--workspace"]).env("KACHE_LOCAL_ONLY", "1").ok().expect_all_hits();
}

/// A machine whose remote is down while it builds, which the user then tries to sync, and which is then killed. Another
/// machine finds everything on the remote later.
fn killed_with_a_full_queue(protocol: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("{protocol}://127.0.0.1:{port}");
    let first = machine("first", &url, None);
    let tree = project::mini(&first, "first/ws");
    first.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    let failed = sync(&first, &tree, &["--push"]);
    assert!(failed.code == Some(1) && failed.stderr.contains("unreachable: "), "{failed:?}");
    assert!(uploads_waiting(&first) > Some(3), "{failed:?}");
    first.kill_daemon();

    let server = Home::without_daemon().with("KACHE_SERVE_LISTEN", &format!("127.0.0.1:{port}"));
    server.start();
    first.start();
    let pushed = sync(&first, &tree, &["--push"]);
    assert!(copied(&pushed, "uploaded ") > 3, "{pushed:?}");
    let second = machine("second", &url, Some(&first));
    let other = project::mini(&second, "second/ws");
    second.cargo(&other, &["build", "--workspace"]).ok().expect_all_hits();
}

#[test]
fn net_04_a_sync_finishes_what_a_killed_daemon_has_left_for_an_http_cache() {
    killed_with_a_full_queue("http");
}

#[test]
fn net_04_a_sync_finishes_what_a_killed_daemon_has_left_for_a_server_of_actions() {
    killed_with_a_full_queue("grpc");
}

#[test]
fn net_05_a_remote_that_has_lost_everything_gets_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    let (first, tree) = fill(&url);
    first.start();
    // The daemon was stopped just after the build, so the list of what the build has used may still wait.
    copied(&sync(&first, &tree, &["--push"]), "uploaded ");
    let all = copied(&sync(&first, &tree, &["--all", "--dry-run"]), "would upload ");
    assert_eq!(all, 0, "the remote has it");
    for lost in ["ac", "cas"] {
        fs::remove_dir_all(folder.path().join(lost)).unwrap();
    }
    assert_eq!(copied(&sync(&first, &tree, &["--push"]), "uploaded "), 0, "nothing waits");
    assert!(copied(&sync(&first, &tree, &["--workspace", "--push"]), "uploaded ") > 0);
    fs::remove_dir_all(folder.path().join("ac")).unwrap();
    assert!(copied(&sync(&first, &tree, &["--all"]), "uploaded ") > 0);
    let second = machine("second", &url, Some(&first));
    let other = project::mini(&second, "second/ws");
    second.cargo(&other, &["build", "--workspace"]).ok().expect_all_hits();
}

#[test]
fn a_sync_that_is_not_complete_says_why() {
    let home = Home::without_daemon();
    home.start();
    let tree = project::mini(&home, "ws");
    let failed = sync(&home, &tree, &["--push"]);
    assert_eq!(failed.stderr, "kache: no remote is configured, or `KACHE_LOCAL_ONLY` is set\n");
    assert_eq!(failed.code, Some(1));

    let folder = tempfile::tempdir().unwrap();
    let url = url_of(folder.path());
    // What was compiled before a remote was configured has no form in which it could be uploaded.
    home.cargo(&tree, &["build", "--workspace"]).ok();
    let failed = home.kache(&["sync", "--all"]).env("KACHE_REMOTE", &url).run_unwatched();
    assert!(
        failed.code == Some(1) && failed.stderr.contains("before this remote was configured"),
        "{failed:?}"
    );
    let failed = sync_with(&home, &tree, &["--pull"], &url);
    assert!(
        failed.code == Some(1) && failed.stderr.contains("it knows no build of this workspace"),
        "{failed:?}"
    );

    let home = machine_with("reader", &format!("url = \"{url}\"\naccess = \"read\""), None);
    let failed = home.kache(&["sync", "--push"]).run_unwatched();
    assert!(
        failed.code == Some(1) && failed.stderr.contains("no remote is configured to be written to"),
        "{failed:?}"
    );
    let failed = home.kache(&["sync", "--pull"]).run_unwatched();
    assert!(
        failed.code == Some(1) && failed.stderr.contains("there is no cargo workspace here"),
        "{failed:?}"
    );
}

fn sync_with(home: &Home, tree: &Tree, args: &[&str], url: &str) -> Built {
    let manifest = tree.join("Cargo.toml");
    let args = [&["sync"], args, &["--manifest-path", manifest.to_str().unwrap()]].concat();
    home.kache(&args).env("KACHE_REMOTE", url).run_unwatched()
}

#[test]
fn what_the_remote_refuses_is_told_in_its_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = Home::without_daemon()
        .with("KACHE_SERVE_LISTEN", &format!("127.0.0.1:{port}"))
        .with("KACHE_SERVE_READ_ONLY", "true");
    server.start();
    let home = machine("first", &format!("http://127.0.0.1:{port}"), None);
    let tree = project::mini(&home, "ws");
    home.cargo(&tree, &["build", "--workspace"]).ok();
    eventually("uploads that wait", || uploads_waiting(&home) > Some(3));
    let failed = sync(&home, &tree, &["--push"]);
    assert!(failed.code == Some(1) && failed.stderr.contains("refused: "), "{failed:?}");
}
