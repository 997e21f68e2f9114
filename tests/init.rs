//! `kache init` end to end: it shows the change, asks, changes one line, and removes it again.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An empty home.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    fn with_config(text: &str) -> Self {
        let home = Home::new();
        fs::create_dir_all(home.0.path().join(".cargo")).unwrap();
        fs::write(home.config(), text).unwrap();
        home
    }

    fn config(&self) -> PathBuf {
        self.0.path().join(".cargo/config.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.config()).unwrap()
    }

    /// Runs `kache init`. Returns its output, with names for paths, and its exit code.
    fn init(&self, args: &[&str], variables: &[(&str, &str)]) -> (String, i32) {
        let client = env!("CARGO_BIN_EXE_kache");
        let output = Command::new(client)
            .arg("init")
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let name = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(client, "CLIENT");
            text.replace(&*self.0.path().to_string_lossy(), "HOME")
        };
        let (shown, said) = (name(&output.stdout), name(&output.stderr));
        (format!("{shown}--- stderr\n{said}"), output.status.code().unwrap())
    }
}

fn search() -> String {
    PathBuf::from(env!("CARGO_BIN_EXE_kache")).parent().unwrap().display().to_string()
}

#[test]
fn the_change_is_shown_and_made_once_and_can_be_removed() {
    let home = Home::with_config("# mine\n[build]\njobs = 4 # few\n\n[net]\nretry = 2\n");
    let before = home.text();
    let (said, code) = home.init(&["-y"], &[]);
    insta::assert_snapshot!(said, @r#"
    HOME/.cargo/config.toml
      [build]
      jobs = 4 # few
    + rustc-wrapper = "CLIENT"

      [net]
    --- stderr
    kache: cargo now calls kache; `kache doctor --probe` tests it, `kache init --remove` undoes it
    "#);
    assert_eq!(code, 0);
    let after = home.text();
    let (said, code) = home.init(&["-y"], &[]);
    assert!(said.contains("nothing to do") && code == 0, "{said}");
    assert_eq!(home.text(), after);

    assert_eq!(home.init(&["--check"], &[]).1, 0, "there is nothing to change");
    assert_eq!(home.init(&["--remove", "--check"], &[]).1, 1, "there is something to remove");
    assert_eq!(home.init(&["--remove", "-y"], &[]).1, 0);
    assert_eq!(home.text(), before);
}

#[test]
fn without_a_terminal_and_without_y_nothing_is_changed() {
    let home = Home::new();
    let (said, code) = home.init(&[], &[]);
    insta::assert_snapshot!(said, @r#"
    HOME/.cargo/config.toml
    + [build]
    + rustc-wrapper = "CLIENT"
    --- stderr
    kache: standard input is not a terminal, so kache cannot ask
    hint: `kache init -y` does not ask
    "#);
    assert_eq!(code, 2);
    assert_eq!(home.init(&["--check"], &[]).1, 1);
    assert!(!home.config().exists());
}

#[test]
fn init_writes_the_programs_name_if_path_contains_it_and_otherwise_its_path() {
    let home = Home::new();
    assert_eq!(home.init(&["-y"], &[("PATH", &search())]).1, 0);
    assert_eq!(home.text(), "[build]\nrustc-wrapper = \"kache\"\n");
    // Without `PATH` cargo would not find the name either, so the path is written.
    let (said, _) = home.init(&["--check"], &[]);
    assert!(said.contains("- rustc-wrapper = \"kache\"\n+ rustc-wrapper = \"CLIENT\""), "{said}");
    assert_eq!(home.init(&["--remove", "-y"], &[]).1, 0);
    assert!(!home.config().exists(), "a file that `init` created is removed");
}

#[test]
fn init_keeps_another_wrapper() {
    let text = "[build]\nrustc-wrapper = \"sccache\"\n";
    let home = Home::with_config(text);
    for args in [&["-y"][..], &["--remove", "-y"]] {
        home.init(args, &[]);
        assert_eq!(home.text(), text);
    }
    let (said, code) = home.init(&["-y"], &[]);
    assert!(said.contains("already names another wrapper, `sccache`") && said.contains("KACHE_FALLBACK"));
    assert_eq!(code, 1);
    let home = Home::new();
    let (said, code) = home.init(&["-y"], &[("RUSTC_WRAPPER", "sccache")]);
    assert!(
        said.contains("warning: in this directory RUSTC_WRAPPER overrides that: cargo calls `sccache`"),
        "{said}"
    );
    assert_eq!(code, 0);
}

#[test]
fn init_does_not_change_a_file_that_is_not_toml() {
    let home = Home::with_config("[build\n");
    let (said, code) = home.init(&["-y"], &[]);
    assert!(said.contains("correct it first") && code == 1, "{said}");
    assert_eq!(home.text(), "[build\n");
}

#[test]
fn init_writes_through_a_link() {
    let home = Home::with_config("");
    let real = home.0.path().join("dotfiles.toml");
    fs::rename(home.config(), &real).unwrap();
    std::os::unix::fs::symlink(&real, home.config()).unwrap();
    assert_eq!(home.init(&["-y"], &[]).1, 0);
    assert!(home.config().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("rustc-wrapper"));
}
