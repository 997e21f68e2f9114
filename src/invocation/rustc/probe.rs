//! Questions to the compiler, and trial compiles of build scripts (RST-10).
//!
//! A trial is a compile that a build script makes to see whether it works. Its failure is as
//! good an answer as its success, provided that everything it read is known: then the same
//! trial fails again. Trials lie on every build's critical path.

use super::parse::Read;
use super::types::{EmitKind, Parsed, Probe, Rustc, SearchKind, Source};
use crate::invocation::{Bypass, Call, Reason};

/// What autocfg calls its trials, before something random.
const RANDOM_NAME_START: &str = "autocfg_";

/// What rustc calls a crate that has no name and comes from standard input, as rustix's trials do.
const NAME_OF_UNNAMED: &str = "rust_out";

/// The longest source of a trial that is looked at. The largest known has 5 KB.
const TRIAL_BYTES_MAX: usize = 256 << 10;

/// What in a source may reach out of it. Found anywhere, also where it is harmless. A `link`
/// attribute names a native library, which a compile may bundle into what it makes.
const REACHING_OUT: &[&str] = &["include", "env!", "path", "file!", "asm!", "link"];

/// A variable that is part of every key, so that asking for it reaches nowhere.
const HARMLESS: &str = "option_env!(\"RUSTC_BOOTSTRAP\")";

/// Whether something asks, and whether the answer follows from what is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) is_asked: bool,
    is_open: bool,
    what: String,
}

impl Question {
    /// Something asks: for this, or for what only the compiler knows.
    pub(super) fn ask(&mut self, what: Option<&str>) {
        self.is_asked = true;
        match what {
            // A long text for people; not worth keeping.
            None | Some("help" | "explain") => self.is_open = true,
            Some(what) => what.clone_into(&mut self.what),
        }
    }
}

/// A question as the pipeline sees it.
pub(super) fn question(rustc: Rustc, question: &Question, refused: Option<&Bypass>, call: &Call) -> Parsed {
    let bypass = |detail: &str| Parsed::Bypass(Bypass::new(Reason::Query, detail));
    if let Some(refused) = refused {
        return bypass(&refused.detail);
    }
    let reads_nothing = match &rustc.source {
        Source::Stdin => call.stdin.as_ref().is_none_or(|stdin| stdin.is_empty()),
        Source::File(_) => false,
    };
    if !question.is_asked || question.is_open || !reads_nothing || !rustc.files.is_empty() {
        return bypass(&question.what);
    }
    Parsed::Probe(Box::new(Probe { rustc, is_question: true, random_name: None }))
}

/// Tells a build script's trial from a compile of cargo's.
pub(super) fn sort(rustc: Rustc, call: &Call, read: Read<'_>) -> Result<Parsed, Bypass> {
    if is_trial(&rustc, call, read) {
        let random_name = is_random(&rustc.crate_name).then(|| rustc.crate_name.clone());
        return Ok(Parsed::Probe(Box::new(Probe { rustc, is_question: false, random_name })));
    }
    match rustc.source {
        Source::Stdin => Err(Bypass::new(Reason::Stdin, rustc.crate_name)),
        Source::File(_) => Ok(Parsed::Compile(Box::new(rustc))),
    }
}

/// The name of a crate that is given none, if its source gives it none either.
pub(super) fn unnamed(source: &Source, call: &Call) -> Option<&'static str> {
    let text = call.stdin.as_ref().filter(|_| *source == Source::Stdin)?;
    let is_named = std::str::from_utf8(text).is_ok_and(|text| text.contains("crate_name"));
    (!is_named).then_some(NAME_OF_UNNAMED)
}

fn is_trial(rustc: &Rustc, call: &Call, read: Read<'_>) -> bool {
    // Cargo names the crate for its own compiles; a build script has an `OUT_DIR` and no crate.
    let out_dir = call.env.get("OUT_DIR");
    let is_script = out_dir.is_some() && call.env.get("CARGO_CRATE_NAME").is_none();
    let is_alone = rustc.externs.iter().all(|external| external.path.is_none())
        && rustc.files.is_empty()
        && rustc.native_libraries.is_empty()
        && !rustc.searches.iter().any(|search| finds_crates(search.kind));
    if !is_script || !is_alone || rustc.is_linked() {
        return false;
    }
    match &rustc.source {
        Source::Stdin => {
            let source = call.stdin.as_ref();
            source.is_some_and(|source| is_self_contained(source)) && !rustc.emits(EmitKind::DepInfo)
        }
        Source::File(path) => read(&call.cwd.join(path)).is_ok_and(|source| is_self_contained(&source)),
    }
}

/// Whether `extern crate` finds crates in a directory that is searched so.
fn finds_crates(kind: SearchKind) -> bool {
    matches!(kind, SearchKind::All | SearchKind::Crate | SearchKind::Dependency)
}

/// Whether a source reads nothing but itself, the toolchain, and what is always in the key.
/// Says no when in doubt.
fn is_self_contained(source: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(source) else { return false };
    if text.len() > TRIAL_BYTES_MAX {
        return false;
    }
    let code = without_comments(&text.replace(HARMLESS, ""));
    !has_outer_module(&code) && !REACHING_OUT.iter().any(|what| reaches(&code, what))
}

/// Whether a word stands in the code that reaches out. `path` does as an attribute's name;
/// as part of `std::path` it does not.
fn reaches(code: &str, what: &str) -> bool {
    match what {
        "path" => code.split('#').skip(1).any(|after| {
            let attribute = after.split(']').next().unwrap_or_default();
            attribute.contains("path")
        }),
        // `link_section` and `no_link` are other words.
        "link" => words(code).any(|word| word == what),
        _ => code.contains(what),
    }
}

/// The identifiers, keywords and numbers of the code, in order.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether the code has a `mod name;`.
fn has_outer_module(code: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    code.match_indices("mod").any(|(at, _)| {
        let is_start = at == 0 || !is_word(code.as_bytes()[at - 1]);
        let rest = &code[at + 3..];
        let ends_here = !rest.bytes().next().is_some_and(is_word);
        let after_name =
            rest.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '#');
        is_start && ends_here && after_name.trim_start().starts_with(';')
    })
}

/// Without lines that are comments. A `//` elsewhere may stand in a string, so what follows
/// it stays.
fn without_comments(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

fn is_random(crate_name: &str) -> bool {
    let Some(rest) = crate_name.strip_prefix(RANDOM_NAME_START) else { return false };
    rest.bytes().filter(u8::is_ascii_hexdigit).count() >= 16
}
