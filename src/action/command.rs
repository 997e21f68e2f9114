//! Command lines in keys: from a call to the key, and from a stored key back to a call.
//!
//! An absolute path becomes a path through the input root (`../out/debug/deps`), so that it is the same for
//! every checkout (KEY-17). A relative path stays as it is, because a compiler writes it into outputs as it
//! was given. Pure.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::error::ActionError;
use super::explain::{Entry, Section};
use super::material::PRESENTATION;
use super::text::{MARK, bytes_of, path_text, text};
use crate::invocation::{Call, CommandLine, KeyedArgument, Word};
use crate::roles::{Form, RolePath, Roots, STAND_IN_START};

/// Replaces the random name of a trial compile, in its key and in its stored result (RST-10).
pub const CONSTANT_NAME: &str = "kache_trial";

/// Returns the arguments of a command line in the form in which they enter a key. `program` is the program
/// that the key names, and `roots` are the roots of `call`.
pub(super) fn for_key(
    command: &CommandLine,
    program: &Path,
    call: &Call,
    roots: &Roots,
) -> Result<Vec<String>, ActionError> {
    let cwd = roots.role_path(&call.cwd, Path::new(""));
    let up = up(&cwd.in_input_root());
    let writer = ArgumentWriter { command, call, roots, cwd, up };
    let mut all = Vec::with_capacity(command.words.len() + 12);
    all.extend([SHELL[0].to_owned(), SHELL[1].to_owned(), script(command, &writer.up), SHELL[2].to_owned()]);
    all.push(path_text(&writer.cwd.in_input_root()));
    all.push(writer.absolute(program));
    for word in &command.words {
        match word {
            Word::Plain(plain) => all.push(writer.named(text(plain.as_encoded_bytes()))),
            Word::Text(given) => all.push(writer.named(writer.generalised(given.as_encoded_bytes())?)),
            Word::Path { before, path } => {
                let before = text(before.as_encoded_bytes());
                all.push(writer.named(format!("{before}{}", writer.path(path))));
            }
            Word::Presentation(_) | Word::Stripped(_) => {}
        }
    }
    all.extend(command.only_in_key.iter().cloned());
    Ok(all)
}

/// The words of a shell's call: the program and its option in front of the script, and the shell's own name
/// behind it.
const SHELL: [&str; 3] = ["sh", "-c", "sh"];

/// The beginning of the script: the place of the input root.
const PLACE: &str = "r=$(pwd -P)";

/// Returns the script that runs the compiler. Its arguments are the call's directory in the input root, the
/// program as it is seen from there, and the arguments of the program. `up` is the relative path
/// from that directory to the input root.
///
/// Paths that were absolute in the call become absolute again, because the compiler writes some of them into
/// outputs, where its remaps find absolute paths only.
fn script(command: &CommandLine, up: &str) -> String {
    let mut script = format!(r#"{PLACE} && cd "$1" && p=$2 && shift 2"#);
    let mut words = String::new();
    // The compiler's own name in `clippy-driver rustc …` stays in front of all options.
    for index in 0..command.leading_words {
        script.push_str(&format!(" && w{index}=$1 && shift"));
        words.push_str(&format!(r#" "$w{index}""#));
    }
    // [`ArgumentWriter`] marks a relative path into another root by `./`.
    script.push_str(&format!(
        r#" && for a do shift; case $a in *./{up}*) ;; *{up}*) a=${{a%%{up}*}}$r/${{a#*{up}}};; esac; set -- "$@" "$a"; done"#
    ));
    for KeyedArgument { before, path, after } in &command.added_in_key {
        words.push_str(&format!(r#" "{}$r/{}{}""#, quoted(before), quoted(path), quoted(after)));
    }
    script + r#" && exec "$p""# + &words + r#" "$@""#
}

/// Extends a script of [`script`]: in the values of these variables, the script replaces stand-ins by paths below the
/// place of the input root.
pub(super) fn with_places(script: &str, names: &BTreeSet<&str>) -> String {
    let is_name = |name: &&&str| {
        let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
        name.bytes().all(is_word) && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    let names: Vec<&&str> = names.iter().filter(is_name).collect();
    let Some(rest) = script.strip_prefix(PLACE).filter(|_| !names.is_empty()) else {
        return script.to_owned();
    };
    let mut with = format!(
        "{PLACE} && e() {{ v=$1 o=; while case $v in *{STAND_IN_START}*) ;; *) false;; esac; \
         do o=$o${{v%%{STAND_IN_START}*}}$r/ v=${{v#*{STAND_IN_START}}}; done; }}"
    );
    for name in names {
        with.push_str(&format!(r#" && e "${name}" && export {name}="$o$v""#));
    }
    with + rest
}

/// Returns a text as it is written between the double quotes of a shell.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// The relative path from a directory in the input root to the input root: one `../` for each level.
fn up(directory: &[u8]) -> String {
    "../".repeat(directory.split(|byte| *byte == b'/').count())
}

/// Makes arguments of a key from arguments of a call.
struct ArgumentWriter<'a> {
    command: &'a CommandLine,
    call: &'a Call,
    roots: &'a Roots,
    cwd: RolePath,
    /// The relative path from the call's directory to the input root.
    up: String,
}

impl ArgumentWriter<'_> {
    fn path(&self, path: &Path) -> String {
        let given = path.as_os_str().as_encoded_bytes();
        if path.is_absolute() {
            return self.absolute(path);
        }
        let found = self.roots.role_path(&self.call.cwd, path);
        if found.role() == self.cwd.role() {
            return path_text(given);
        }
        // A relative path into another root. The `./` tells it apart from the same path given
        // absolutely: rustc writes the two into outputs in different ways.
        format!("./{}{}", self.up, path_text(&found.in_input_root()))
    }

    fn absolute(&self, path: &Path) -> String {
        let found = self.roots.role_path(&self.call.cwd, path);
        format!("{}{}", self.up, path_text(&found.in_input_root()))
    }

    fn generalised(&self, given: &[u8]) -> Result<String, ActionError> {
        let found = self.roots.generalise(given, Form::Value);
        let found = found.ok_or_else(|| ActionError::StandIn { text: text(given) })?;
        Ok(text(&found))
    }

    /// Replaces the random name of a trial compile by [`CONSTANT_NAME`].
    fn named(&self, argument: String) -> String {
        match self.command.random_name.as_deref() {
            Some(name) if argument.contains(name) => argument.replace(name, CONSTANT_NAME),
            _ => argument,
        }
    }
}

/// The command line of a stored action, read for one checkout.
///
/// The parts of a call that its key leaves out are lost. An adapter makes the call's arguments from this
/// value, because only it knows what it had added to the key.
#[derive(Debug)]
pub struct StoredCommand<'a> {
    /// The working directory in the checkout, absolute.
    pub cwd: PathBuf,
    /// The arguments as they are in the key, with the program first. [`StoredCommand::argument`] reads them.
    pub arguments: Vec<&'a str>,
    /// The options that decide how messages look, as the task had framed them; `None` if the compiler
    /// printed no messages.
    pub presentation: Option<Vec<u8>>,
    /// The variables that are in the key.
    pub env: Vec<(OsString, OsString)>,
    roots: &'a Roots,
    up: String,
}

impl<'a> StoredCommand<'a> {
    /// Reads the command line of a stored action for the checkout with these roots. `None` if the action is
    /// not a compile of kache's, or if it names a root that is not in `roots`.
    pub fn read(entries: &'a [Entry], roots: &'a Roots) -> Option<StoredCommand<'a>> {
        let arguments: Vec<&str> = of(entries, Section::Argument).map(|entry| &*entry.value).collect();
        let [shell, option, _, name, cwd, arguments @ ..] = &arguments[..] else { return None };
        if [*shell, *option, *name] != SHELL {
            return None;
        }
        let up = up(cwd.as_bytes());
        let cwd = roots.locate(&RolePath::from_input_root(cwd.as_bytes())?)?;
        let shown = of(entries, Section::Platform).find(|entry| entry.name == PRESENTATION);
        let presentation = match shown {
            Some(entry) => Some(bytes_of(&entry.value)?),
            None => None,
        };
        let arguments = arguments.to_vec();
        let mut command = StoredCommand { cwd, arguments, presentation, env: Vec::new(), roots, up };
        let variable = |entry: &Entry| Some((OsString::from(&entry.name), command.text(&entry.value)?));
        command.env = of(entries, Section::Variable).map(variable).collect::<Option<_>>()?;
        Some(command)
    }

    /// Makes an argument of a call from an argument of the key. `None` if it names a root that the checkout
    /// does not have.
    pub fn argument(&self, argument: &str) -> Option<OsString> {
        let Some((before, path)) = self.path(argument) else { return self.text(argument) };
        let mut whole = OsString::from(before);
        whole.push(path?);
        Some(whole)
    }

    /// Splits an argument that ends in a path through the input root into the text before the path and
    /// the path in this checkout. `None` if the argument has no such path; an inner `None` if this
    /// checkout has no such root.
    fn path<'t>(&self, argument: &'t str) -> Option<(&'t str, Option<PathBuf>)> {
        let at = argument.find(&self.up)?;
        let path = RolePath::from_input_root(&argument.as_bytes()[at + self.up.len()..])?;
        let place = if argument.contains(MARK) { None } else { self.roots.locate(&path) };
        // [`ArgumentWriter`] marks a relative path into another root by `./`. All others were absolute.
        Some(match argument[..at].strip_suffix("./") {
            Some(before) => (before, place.map(|place| relative(&self.cwd, &place))),
            None => (&argument[..at], place),
        })
    }

    fn text(&self, text: &str) -> Option<OsString> {
        let bytes = bytes_of(text)?;
        self.roots.localise(&bytes, Form::Value).map(OsString::from_vec)
    }
}

fn of(entries: &[Entry], section: Section) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.section == section)
}

/// The relative path from a directory to a path; both are absolute and in normal form.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let ups = from.components().skip(shared).map(|_| Component::ParentDir.as_os_str());
    let downs = to.components().skip(shared).map(Component::as_os_str);
    let way: PathBuf = ups.chain(downs).collect();
    if way.as_os_str().is_empty() { PathBuf::from(OsStr::new(".")) } else { way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_17_the_script_of_an_action_gives_the_compiler_the_place_of_the_input_root() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("ws/a")).unwrap();
        let added = |path: &str, after: &str| KeyedArgument {
            before: "--remap=",
            path: path.to_owned(),
            after: after.to_owned(),
        };
        let command = CommandLine {
            program: "p".into(),
            leading_words: 1,
            added: Vec::new(),
            added_in_key: vec![added("ws", "=."), added("out", "=`$x`\\\"")],
            words: Vec::new(),
            only_in_key: Vec::new(),
            random_name: None,
        };
        let run = std::process::Command::new(SHELL[0])
            .args([SHELL[1], &script(&command, "../../"), SHELL[2], "ws/a", "printf", "%s\n", "x y", "*"])
            .args([
                "../../ws/b",
                "dependency=../../out/d e",
                "./../../out",
                "x=./../../out",
                "../c",
                "../../",
            ])
            .current_dir(&root)
            .output()
            .unwrap();
        let root = root.display();
        let expected = format!(
            "--remap={root}/ws=.\n--remap={root}/out=`$x`\\\"\nx y\n*\n\
             {root}/ws/b\ndependency={root}/out/d e\n./../../out\nx=./../../out\n../c\n{root}/\n"
        );
        assert_eq!(String::from_utf8(run.stdout).unwrap(), expected, "{}", script(&command, "../../"));
    }

    #[test]
    fn key_17_the_script_of_an_action_gives_variables_the_place_of_the_input_root() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap().join("kache/ws");
        std::fs::create_dir_all(&root).unwrap();
        let script = format!(r#"{PLACE} && printf '%s\n' "$A" "$B" "$C""#);
        let names = ["A", "B", "NOT SET", "1"].into();
        let run = std::process::Command::new(SHELL[0])
            .args([SHELL[1], &with_places(&script, &names)])
            .envs([("A", "/kache/out/x y"), ("B", "-L/kache/ws:/kache/out/*:"), ("C", "/kache/ws")])
            .current_dir(&root)
            .output()
            .unwrap();
        let root = root.display();
        let expected = format!("{root}/out/x y\n-L{root}/ws:{root}/out/*:\n/kache/ws\n");
        assert_eq!(String::from_utf8(run.stdout).unwrap(), expected, "{}", with_places(&script, &names));
        assert_eq!(with_places(&script, &BTreeSet::new()), script);
    }

    #[test]
    fn a_relative_path_goes_up_and_down() {
        for (from, to, expected) in
            [("/a/b", "/a/c/d", "../c/d"), ("/a/b", "/a/b/c", "c"), ("/a", "/a", "."), ("/", "/x", "x")]
        {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        }
    }
}
