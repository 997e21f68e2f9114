//! What a cargo command line says of what is compiled.
//!
//! Pure. Options that change nothing about it are left out, so that `cargo build` and
//! `cargo build -v -j 2` are one thing. What is not known is no build.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// A command that compiles for the target directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildCommand {
    /// The words that decide what is compiled, in order.
    pub words: Vec<OsString>,
    /// `--target-dir`, as it was given.
    pub target_dir: Option<PathBuf>,
    /// `--manifest-path`, as it was given.
    pub manifest: Option<PathBuf>,
    /// The command where it is a short form, for which a configuration may have another meaning.
    pub short_form: Option<String>,
}

/// Commands that compile, in every way of writing them.
const COMMANDS: &[(&str, &str)] = &[
    ("build", "b"),
    ("check", "c"),
    ("test", "t"),
    ("run", "r"),
    ("doc", "d"),
    ("bench", "bench"),
    ("rustc", "rustc"),
];

/// Options that decide nothing, alone.
const IDLE: &[&str] = &[
    "--verbose",
    "--quiet",
    "--locked",
    "--offline",
    "--frozen",
    "--keep-going",
    "--no-fail-fast",
    "--timings",
];

/// Options that decide nothing, with the value that follows.
const IDLE_WITH_VALUE: &[&str] = &["--color", "--jobs", "--message-format"];

/// What these words, the program first, say; `None` where they compile nothing, or where it
/// cannot be told.
pub fn parse_build_command(words: &[OsString]) -> Option<BuildCommand> {
    let mut words = words.iter().skip(1);
    let mut found = BuildCommand::default();
    let mut has_command = false;
    while let Some(word) = words.next() {
        let text = word.to_str()?;
        let (name, joined) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (text, None),
        };
        match name {
            // What follows is for the program, or for one crate of the workspace.
            "--" => break,
            "--target-dir" => {
                let value = joined.map(OsString::from).or_else(|| words.next().cloned())?;
                found.target_dir = Some(PathBuf::from(value));
            }
            "--manifest-path" => {
                let value = joined.map(OsString::from).or_else(|| words.next().cloned())?;
                found.manifest = Some(PathBuf::from(value));
            }
            // A file may say anything, and unstable options may move everything.
            "--config" => {
                let value = joined.map(OsString::from).or_else(|| words.next().cloned())?;
                let is_plain = value.as_bytes().contains(&b'=') && !places_outputs(value.as_bytes());
                found.words.extend(is_plain.then(|| [OsString::from("--config"), value])?);
            }
            "-C" => return None,
            _ if name.starts_with("-Z") => return None,
            _ if IDLE.contains(&name) => {}
            _ if IDLE_WITH_VALUE.contains(&name) => {
                if joined.is_none() {
                    words.next()?;
                }
            }
            "-j" => {
                words.next()?;
            }
            _ if name.starts_with("-j") || is_shouting(name) => {}
            _ if !has_command => {
                let (command, _) = COMMANDS.iter().find(|(long, short)| name == *long || name == *short)?;
                found.words.push(OsString::from(command));
                found.short_form = (name != *command).then(|| name.to_owned());
                has_command = true;
            }
            _ => found.words.push(word.clone()),
        }
    }
    has_command.then_some(found)
}

/// Whether a setting says where outputs go, which no key counts.
fn places_outputs(setting: &[u8]) -> bool {
    ["target-dir", "build-dir"]
        .iter()
        .any(|name| setting.windows(name.len()).any(|part| part == name.as_bytes()))
}

/// `-v`, `-vv`, `-q`
fn is_shouting(word: &str) -> bool {
    let letters = word.strip_prefix('-').unwrap_or_default();
    !letters.is_empty() && letters.bytes().all(|letter| matches!(letter, b'v' | b'q'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<BuildCommand> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse_build_command(&words)
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let found = parsed(line).unwrap_or_else(|| panic!("`{line}` is a build"));
        let words: Vec<&str> = found.words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words.join(" "), expected, "{line}");
    }

    #[test]
    fn what_decides_nothing_is_left_out() {
        check("cargo build", "build");
        check("/x/cargo -v b -q --color always -j 2 --offline", "build");
        check("cargo --color=never build -j2 --message-format=json --timings -vv", "build");
        check("cargo t --release -p a --manifest-path /w/Cargo.toml -- --nocapture", "test --release -p a");
        check("cargo c --features=a,b --target x", "check --features=a,b --target x");
        check("cargo build --config net.retry=3", "build --config net.retry=3");
    }

    #[test]
    fn a_target_directory_is_told_and_does_not_count() {
        for line in ["cargo build --target-dir t --release", "cargo build --target-dir=t --release"] {
            let found = parsed(line).unwrap();
            assert_eq!(found.target_dir.unwrap(), PathBuf::from("t"));
            assert_eq!(found.words, ["build", "--release"]);
        }
    }

    #[test]
    fn a_manifest_and_a_short_form_are_told_and_do_not_count() {
        for line in ["cargo b --manifest-path a/Cargo.toml", "cargo --manifest-path=a/Cargo.toml b"] {
            let found = parsed(line).unwrap();
            assert_eq!(found.manifest.unwrap(), PathBuf::from("a/Cargo.toml"));
            assert_eq!((&*found.short_form.unwrap(), &found.words[..]), ("b", &["build".into()][..]));
        }
        assert_eq!(parsed("cargo build").unwrap().short_form, None);
    }

    #[test]
    fn what_compiles_nothing_or_cannot_be_told_is_no_build() {
        for line in [
            "cargo",
            "cargo metadata --format-version 1",
            "cargo clean -p a",
            "cargo tree",
            "cargo mine",
            "cargo -v",
            "cargo build -Zbuild-dir-new-layout",
            "cargo -Z x build",
            "cargo -C /elsewhere build",
            "cargo build --config /w/other.toml",
            "cargo build --config build.target-dir='x'",
            "cargo build --config=build.build-dir='x'",
            "cargo build --color",
            "cargo build --target-dir",
            "cargo build --manifest-path",
            "cargo +nightly build",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }
}
