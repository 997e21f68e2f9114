//! Parses cargo's command line, as far as it decides what is compiled.
//!
//! Pure. Options that do not change what is compiled are left out, so that `cargo build` and
//! `cargo build -v -j 2` are equal. A command line that is not fully understood is not parsed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// A cargo command that compiles into the target directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildCommand {
    /// The arguments that decide what is compiled, in order.
    pub words: Vec<OsString>,
    /// The value of `--target-dir`, which may be relative.
    pub target_dir: Option<PathBuf>,
    /// The value of `--manifest-path`, which may be relative.
    pub manifest: Option<PathBuf>,
    /// The command, if it is a short form such as `b`. A configuration file may define an alias with
    /// that name.
    pub short_form: Option<String>,
}

/// The commands that compile, each with its short form.
const COMMANDS: &[(&str, &str)] = &[
    ("build", "b"),
    ("check", "c"),
    ("test", "t"),
    ("run", "r"),
    ("doc", "d"),
    ("bench", "bench"),
    ("rustc", "rustc"),
];

/// Options without a value that do not change what is compiled.
const IGNORED: &[&str] = &[
    "--verbose",
    "--quiet",
    "--locked",
    "--offline",
    "--frozen",
    "--keep-going",
    "--no-fail-fast",
    "--timings",
];

/// Options with a value that do not change what is compiled.
const IGNORED_WITH_VALUE: &[&str] = &["--color", "--jobs", "--message-format"];

/// Parses a command line; the program comes first. `None` if the command compiles nothing, or if an
/// option is not understood.
pub fn parse_build_command(words: &[OsString]) -> Option<BuildCommand> {
    let mut words = words.iter().skip(1);
    let mut command = BuildCommand::default();
    let mut has_command = false;
    while let Some(word) = words.next() {
        let text = word.to_str()?;
        let (name, joined) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (text, None),
        };
        match name {
            // The arguments after it go to the program, or change one crate of the workspace only.
            "--" => break,
            "--target-dir" => {
                let value = joined.map(OsString::from).or_else(|| words.next().cloned())?;
                command.target_dir = Some(PathBuf::from(value));
            }
            "--manifest-path" => {
                let value = joined.map(OsString::from).or_else(|| words.next().cloned())?;
                command.manifest = Some(PathBuf::from(value));
            }
            // A setting is understood; the name of a file is not, because the file is not read here.
            "--config" => {
                let value = joined.map(OsString::from).or_else(|| words.next().cloned())?;
                let is_plain = value.as_bytes().contains(&b'=') && !moves_outputs(value.as_bytes());
                command.words.extend(is_plain.then(|| [OsString::from("--config"), value])?);
            }
            // `-C` changes cargo's directory, and unstable options may change anything.
            "-C" => return None,
            _ if name.starts_with("-Z") => return None,
            _ if IGNORED.contains(&name) => {}
            _ if IGNORED_WITH_VALUE.contains(&name) => {
                if joined.is_none() {
                    words.next()?;
                }
            }
            "-j" => {
                words.next()?;
            }
            _ if name.starts_with("-j") || is_verbosity(name) => {}
            _ if !has_command => {
                let (long, _) = COMMANDS.iter().find(|(long, short)| name == *long || name == *short)?;
                command.words.push(OsString::from(long));
                command.short_form = (name != *long).then(|| name.to_owned());
                has_command = true;
            }
            _ => command.words.push(word.clone()),
        }
    }
    has_command.then_some(command)
}

/// Whether a setting changes the directory of the outputs.
fn moves_outputs(setting: &[u8]) -> bool {
    ["target-dir", "build-dir"]
        .iter()
        .any(|name| setting.windows(name.len()).any(|part| part == name.as_bytes()))
}

/// Whether an option is `-v`, `-vv`, `-q` or the like.
fn is_verbosity(word: &str) -> bool {
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
    fn options_that_do_not_change_the_build_are_left_out() {
        check("cargo build", "build");
        check("/x/cargo -v b -q --color always -j 2 --offline", "build");
        check("cargo --color=never build -j2 --message-format=json --timings -vv", "build");
        check("cargo t --release -p a --manifest-path /w/Cargo.toml -- --nocapture", "test --release -p a");
        check("cargo c --features=a,b --target x", "check --features=a,b --target x");
        check("cargo build --config net.retry=3", "build --config net.retry=3");
    }

    #[test]
    fn the_target_directory_is_not_among_the_words() {
        for line in ["cargo build --target-dir t --release", "cargo build --target-dir=t --release"] {
            let found = parsed(line).unwrap();
            assert_eq!(found.target_dir.unwrap(), PathBuf::from("t"));
            assert_eq!(found.words, ["build", "--release"]);
        }
    }

    #[test]
    fn the_manifest_and_the_short_form_are_not_among_the_words() {
        for line in ["cargo b --manifest-path a/Cargo.toml", "cargo --manifest-path=a/Cargo.toml b"] {
            let found = parsed(line).unwrap();
            assert_eq!(found.manifest.unwrap(), PathBuf::from("a/Cargo.toml"));
            assert_eq!((&*found.short_form.unwrap(), &found.words[..]), ("b", &["build".into()][..]));
        }
        assert_eq!(parsed("cargo build").unwrap().short_form, None);
    }

    #[test]
    fn a_command_that_compiles_nothing_or_is_not_understood_is_no_build() {
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
