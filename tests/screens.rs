//! Every help page and many messages as users see them: a change is reviewed as a diff.
//!
//! To accept a change: `INSTA_UPDATE=always cargo test --test screens`, then read the diff.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use std::process::Command;

/// Runs the real program in an empty home, 80 columns wide, and returns its output. Paths of this run are replaced
/// by names.
fn screen(args: &[&str], variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kache"))
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .env("COLUMNS", "80")
        .env("KACHE_SOCKET_DIR", home.path().join("sockets"))
        .envs(variables.iter().copied())
        .current_dir(home.path())
        .output()
        .unwrap();
    let key = kache_client::DaemonAddress::new(&home.path().join(".cache/kache"), None);
    let key = key.dir().file_name().unwrap().to_string_lossy().into_owned();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes)
            .replace(&*home.path().to_string_lossy(), "HOME")
            .replace(env!("CARGO_PKG_VERSION"), "VERSION")
            .replace(&key, "KEY");
        text.split_inclusive('\n').map(narrow).collect::<String>()
    };
    let mut shown = text(&output.stdout);
    if !output.stderr.is_empty() {
        shown.push_str(&format!("--- stderr\n{}", text(&output.stderr)));
    }
    match output.status.code() {
        Some(0) => shown,
        code => format!("{shown}--- exit code {}\n", code.unwrap_or(-1)),
    }
}

/// Removes the alignment of comments, which depends on the length of this run's paths.
fn narrow(line: &str) -> String {
    match line.split_once("  #") {
        Some((left, right)) => format!("{}  #{right}", left.trim_end()),
        None => line.to_owned(),
    }
}

#[test]
fn help_pages() {
    for page in [
        &[][..],
        &["daemon"],
        &["daemon", "status"],
        &["daemon", "run"],
        &["daemon", "start"],
        &["daemon", "stop"],
        &["daemon", "restart"],
        &["daemon", "log"],
        &["sync"],
        &["config"],
        &["config", "list"],
        &["config", "get"],
        &["config", "default"],
        &["config", "docs"],
        &["report"],
        &["stats"],
        &["why-miss"],
        &["explain"],
        &["diff"],
        &["verify"],
        &["init"],
        &["doctor"],
    ] {
        let args = [page, &["--help"]].concat();
        let name = format!("help_{}", page.join("_"));
        insta::assert_snapshot!(name, screen(&args, &[]));
    }
}

/// Asserts that the list above contains all commands.
#[test]
fn every_command_has_its_page_here() {
    fn paths(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        for inner in command.get_subcommands() {
            let path = format!("{above}_{}", inner.get_name());
            paths(inner, &path, found);
            found.push(path);
        }
    }
    let mut found = Vec::new();
    paths(&kache::cli::command(), "help", &mut found);
    for path in found {
        let file = format!("{}/tests/snapshots/screens__{path}.snap", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&file).exists(), "{path} has no snapshot: add it to `help_pages`");
    }
}

#[test]
fn reports() {
    insta::assert_snapshot!("version", screen(&["--version"], &[]));
    insta::assert_snapshot!("no_arguments", screen(&[], &[]));
    insta::assert_snapshot!("config_list", screen(&["config", "list"], &[]));
    let variables =
        [("KACHE_MAX_SIZE", "5GB"), ("KACHE_SERVE_LISTEN", "127.0.0.1:9092"), ("KACHE_MAXSIZE", "oops")];
    insta::assert_snapshot!("config_list_with_variables", screen(&["config", "list"], &variables));
    insta::assert_snapshot!("config_get", screen(&["config", "get", "cache.max_size"], &variables));
    insta::assert_snapshot!("config_get_unset", screen(&["config", "get", "serve.tokens"], &[]));
    insta::assert_snapshot!("config_get_typo", screen(&["config", "get", "cache.maxsize"], &[]));
    insta::assert_snapshot!("daemon_not_running", screen(&["daemon"], &[]));
    insta::assert_snapshot!("daemon_not_running_json", screen(&["daemon", "status", "--json"], &[]));
    insta::assert_snapshot!("daemon_without_log", screen(&["daemon", "log"], &[]));
    insta::assert_snapshot!("wrong_command", screen(&["deamon"], &[]));
    insta::assert_snapshot!(
        "wrong_configuration",
        screen(&["config", "list"], &[("KACHE_MAX_SIZE", "lots")])
    );
}
