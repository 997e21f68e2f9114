//! A build with a remote that needs credentials, and a search for their bytes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::home::Home;
use crate::machines::{RemoteSetup, files_below, machine, wait_for_uploads};
use crate::project;

/// Asserts that credentials are in no command line while a build uses a remote, and afterwards in no file of kache or
/// below `server`, and in nothing that kache prints.
pub(crate) fn expect_no_credential(remote: impl Into<RemoteSetup>, credentials: &[&str], server: &Path) {
    let has_one = |text: &str| credentials.iter().any(|credential| text.contains(credential));
    let home = machine("first", remote, None);
    let tree = project::mini(&home, "ws");
    let mut build = home.cargo(&tree, &["build", "--workspace"]).spawn();
    loop {
        let has_ended = build.try_wait().unwrap().is_some();
        let told = command_lines().into_iter().find(|line| has_one(line));
        assert_eq!(told, None, "a credential is in a command line");
        if has_ended {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(build.wait().unwrap().success());
    wait_for_uploads(&home);
    let asked: [&[&str]; 7] = [
        &["config", "list"],
        &["daemon", "log"],
        &["daemon", "status"],
        &["daemon", "status", "--json"],
        &["doctor"],
        &["report", "--format", "json"],
        &["sync", "--push"],
    ];
    for command in asked {
        let told = home.kache(command).run_unwatched();
        assert!(!has_one(&told.stdout) && !has_one(&told.stderr), "{told:?}");
    }
    home.stop();
    let mut searched = files_of_kache(&home).into_iter().chain(files_below(server));
    let has_one = |path: &PathBuf| credentials.iter().any(|credential| is_in(credential, path));
    assert_eq!(searched.find(has_one), None, "a credential is in a file");
}

/// The command lines of all processes.
fn command_lines() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

/// All files that kache has made: its store and its log.
fn files_of_kache(home: &Home) -> Vec<PathBuf> {
    let state = home.variable("HOME").join(".local/state");
    let dirs = [home.variable("KACHE_CACHE_DIR"), home.variable("KACHE_SOCKET_DIR"), state];
    let files = dirs.map(|dir| files_below(&dir));
    assert!(!files[0].is_empty() && !files[2].is_empty(), "{files:?}");
    files.concat()
}

/// Whether a file has these bytes. Sockets have none.
fn is_in(text: &str, path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}
