//! A command line of a compiler as one value. It is rendered in two ways: for the run (here), and for the key
//! (`action::command`, which also makes arguments of a call from those of a key).

use std::ffi::OsString;
use std::path::PathBuf;

/// A command line with the effect of each argument on the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// The program that runs, as the call named it.
    pub program: PathBuf,
    /// The number of words that stay in front of `added` in a run. The compiler's own name is such a word in
    /// `clippy-driver rustc …`.
    pub leading_words: usize,
    /// Arguments that kache adds to the run.
    pub added: Vec<OsString>,
    /// Arguments that stand for `added` in the key. They are the same in every checkout.
    pub added_in_key: Vec<KeyedArgument>,
    /// Every argument after the program, in order.
    pub words: Vec<Word>,
    /// Arguments that stand in the key only, behind all others.
    pub only_in_key: Vec<String>,
    /// A name that differs in every build. The key and the stored result hold a constant name instead.
    pub random_name: Option<String>,
}

impl CommandLine {
    /// Returns the arguments of a run, with the program first. A run whose result `is_stored` does not get
    /// the words that do not count ([`Word::Stripped`]).
    pub fn for_run(&self, is_stored: bool) -> Vec<OsString> {
        let (leading, rest) = self.words.split_at(self.leading_words.min(self.words.len()));
        let is_given = |word: &&Word| !(is_stored && matches!(word, Word::Stripped(_)));
        let mut argv = vec![self.program.clone().into_os_string()];
        argv.extend(leading.iter().filter(is_given).map(Word::argument));
        argv.extend(self.added.iter().cloned());
        argv.extend(rest.iter().filter(is_given).map(Word::argument));
        argv
    }
}

/// An argument that kache adds to the key, with the absolute path of a directory in the input root in it. The
/// key does not say where the input root lies, because an engine that executes the action puts it anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedArgument {
    /// The text before the path, such as `--remap-path-prefix=`.
    pub before: &'static str,
    /// The path of the directory, relative to the input root.
    pub path: String,
    /// The text behind the path.
    pub after: String,
}

/// One argument with its effect on the key. Options with several arguments have several words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The argument counts as it is.
    Plain(OsString),
    /// The argument ends in a path, which counts by role.
    Path {
        /// The text before the path, such as `--extern=x=`.
        before: OsString,
        /// The path as it was given.
        path: PathBuf,
    },
    /// The argument counts, with stand-ins for the paths of roots in it: `-C link-arg=-T/…/memory.x`. If such
    /// a path gets into an output, the search of the outputs finds it there and the result is bound.
    Text(OsString),
    /// The argument decides how messages look (KEY-13, RST-07). It counts only if there are messages.
    Presentation(OsString),
    /// The argument does not count. The compiler gets it only if the result is not stored.
    Stripped(OsString),
}

impl Word {
    /// Returns the argument as it was on the command line.
    pub fn argument(&self) -> OsString {
        match self {
            Word::Plain(text) | Word::Text(text) | Word::Presentation(text) | Word::Stripped(text) => {
                text.clone()
            }
            Word::Path { before, path } => {
                let mut whole = before.clone();
                whole.push(path);
                whole
            }
        }
    }
}
