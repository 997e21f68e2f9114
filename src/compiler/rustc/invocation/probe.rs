//! Recognises probes: questions to the compiler, and trial compiles of build scripts (RST-10).
//!
//! A build script makes a trial compile to see whether it succeeds. kache may store its failure, too, if
//! everything that it reads is known, because then the same trial fails again. The check of that reads the
//! source as text and says no when in doubt. Trials are worth it: each build waits for them.

use super::parse::ReadFile;
use super::types::{CrateSource, EmitKind, ParsedCall, Probe, RustcInvocation};
use crate::invocation::{Bypass, Call, Reason};

/// The start of the crate names of autocfg's trials; random characters follow.
const RANDOM_NAME_START: &str = "autocfg_";

/// The name that rustc gives a crate without a name from standard input. rustix's trials are such crates.
const NAME_OF_UNNAMED: &str = "rust_out";

/// The largest source of a trial, in bytes. The largest known one has 5 KB.
const TRIAL_BYTES_MAX: usize = 256 << 10;

/// Texts by which a source may read another file or a variable. A source that contains one of them is no
/// trial, even if the text is harmless there. A `link` attribute names a native library, which rustc may
/// bundle into the output.
const READS_OUTSIDE: &[&str] = &["include", "env!", "path", "file!", "asm!", "link"];

/// An allowed use of `env!`: this variable is part of every key.
const HARMLESS: &str = "option_env!(\"RUSTC_BOOTSTRAP\")";

/// Whether the options ask the compiler a question, and whether kache may store the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    pub(super) is_asked: bool,
    /// Whether the answer may depend on more than the arguments and the toolchain, or is not worth storing.
    is_uncacheable: bool,
    /// The option that asks, for the report.
    option: String,
}

impl Question {
    /// Remembers that this option asks a question. `None` stands for a question whose answer is not stored.
    pub(super) fn ask(&mut self, option: Option<&str>) {
        self.is_asked = true;
        match option {
            // The answer is a long text for people and not worth storing.
            None | Some("help" | "explain") => self.is_uncacheable = true,
            Some(option) => option.clone_into(&mut self.option),
        }
    }
}

/// Returns the probe of a question, or a bypass if its answer may not be stored.
pub(super) fn question(
    rustc: RustcInvocation,
    question: &Question,
    refused: Option<&Bypass>,
    call: &Call,
) -> ParsedCall {
    let bypass = |detail: &str| ParsedCall::Bypass(Bypass::new(Reason::Question, detail));
    if let Some(refused) = refused {
        return bypass(&refused.detail);
    }
    let reads_nothing = match &rustc.source {
        CrateSource::Stdin => call.stdin.as_ref().is_none_or(|stdin| stdin.is_empty()),
        CrateSource::File(_) => false,
    };
    if !question.is_asked || question.is_uncacheable || !reads_nothing || !rustc.files.is_empty() {
        return bypass(&question.option);
    }
    ParsedCall::Probe(Box::new(Probe { rustc, is_question: true, random_name: None }))
}

/// Tells a trial of a build script from a compile of cargo's.
pub(super) fn classify(
    rustc: RustcInvocation,
    call: &Call,
    read: ReadFile<'_>,
) -> Result<ParsedCall, Bypass> {
    if is_trial(&rustc, call, read) {
        let random_name = is_random_name(&rustc.crate_name).then(|| rustc.crate_name.clone());
        return Ok(ParsedCall::Probe(Box::new(Probe { rustc, is_question: false, random_name })));
    }
    match rustc.source {
        CrateSource::Stdin => Err(Bypass::new(Reason::Stdin, rustc.crate_name)),
        CrateSource::File(_) => Ok(ParsedCall::Compile(Box::new(rustc))),
    }
}

/// Returns the name that rustc gives a crate from standard input without `--crate-name`; `None` if its
/// source may name it, or if the source is a file.
pub(super) fn name_of_unnamed_crate(source: &CrateSource, call: &Call) -> Option<&'static str> {
    let text = call.stdin.as_ref().filter(|_| *source == CrateSource::Stdin)?;
    let is_named = std::str::from_utf8(text).is_ok_and(|text| text.contains("crate_name"));
    (!is_named).then_some(NAME_OF_UNNAMED)
}

fn is_trial(rustc: &RustcInvocation, call: &Call, read: ReadFile<'_>) -> bool {
    // Cargo sets `CARGO_CRATE_NAME` for its own compiles. A build script has an `OUT_DIR` and no crate name.
    let out_dir = call.env.get("OUT_DIR");
    let is_script = out_dir.is_some() && call.env.get("CARGO_CRATE_NAME").is_none();
    let is_alone = rustc.externs.iter().all(|external| external.path.is_none())
        && rustc.files.is_empty()
        && rustc.native_libraries.is_empty()
        && rustc.crate_dirs().next().is_none();
    if !is_script || !is_alone || rustc.is_linked() {
        return false;
    }
    match &rustc.source {
        CrateSource::Stdin => {
            let source = call.stdin.as_ref();
            source.is_some_and(|source| is_self_contained(source)) && !rustc.emits(EmitKind::DepInfo)
        }
        CrateSource::File(path) => read(&call.cwd.join(path)).is_ok_and(|source| is_self_contained(&source)),
    }
}

/// Whether a source reads nothing except itself, the toolchain, and variables that are in every key. Returns
/// false when in doubt.
fn is_self_contained(source: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(source) else { return false };
    if text.len() > TRIAL_BYTES_MAX {
        return false;
    }
    let code = without_comments(&text.replace(HARMLESS, ""));
    !has_module_file(&code) && !READS_OUTSIDE.iter().any(|text| contains(&code, text))
}

/// Whether the code contains one of [`READS_OUTSIDE`]. `path` only counts within an attribute, so that
/// `std::path` is allowed.
fn contains(code: &str, text: &str) -> bool {
    match text {
        "path" => code.split('#').skip(1).any(|after| {
            let attribute = after.split(']').next().unwrap_or_default();
            attribute.contains("path")
        }),
        // `link_section` and `no_link` are other words.
        "link" => words(code).any(|word| word == text),
        _ => code.contains(text),
    }
}

/// The identifiers, keywords and numbers of the code, in order.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether the code contains `mod name;`, a module in a file of its own.
fn has_module_file(code: &str) -> bool {
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

/// Removes lines that are comments. A `//` later in a line may be part of a string, so the rest of the line
/// stays.
fn without_comments(text: &str) -> String {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}

fn is_random_name(crate_name: &str) -> bool {
    let Some(rest) = crate_name.strip_prefix(RANDOM_NAME_START) else { return false };
    rest.bytes().filter(u8::is_ascii_hexdigit).count() >= 16
}
