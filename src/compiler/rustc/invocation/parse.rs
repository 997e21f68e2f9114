//! Parses a command line of rustc or clippy's driver to a [`ParsedCall`].
//!
//! It reads argument files, target descriptions and sources only through the function that the caller
//! passes, and it starts no process.
//!
//! Invariant (KEY-10): anything that is not in the tables makes the call a bypass that names it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::argfile::expand;
use super::arguments::{Argument, GivenOption, split_arguments};
use super::codegen::{read_codegen, read_unstable};
use super::declared_outputs::declare_outputs;
use super::options::{KeyEffect, Meaning, PRINTED_WHILE_COMPILING, QUESTIONS};
use super::probe::{self, Question};
use super::types::{
    CrateSource, CrateType, DriverKind, Emit, EmitKind, Extern, FileArgument, NativeLibrary, ParsedCall,
    RustcInvocation, SearchKind, SearchPath, TargetArgument,
};
use crate::invocation::{Bypass, Call, Reason, Word};

/// Reads a whole file. The parser uses it for argument files, target descriptions and sources.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Parses the command line of a call. It never fails: a line that cannot be parsed is a bypass.
pub fn parse(call: &Call, read: ReadFile<'_>) -> ParsedCall {
    match OptionReader::read(call, read) {
        Ok(parsed) => parsed,
        Err(bypass) => ParsedCall::Bypass(bypass),
    }
}

/// The state of the parser: what the options read so far have said.
pub(super) struct OptionReader {
    pub(super) rustc: RustcInvocation,
    /// The free arguments. A compile has exactly one, its root source.
    sources: Vec<String>,
    /// Whether an option asks the compiler a question (`-V`, `--print`), and which.
    question: Question,
    /// The first reason not to cache the compile. It is not returned at once, because the call may turn
    /// out to be a question, and then it is a bypass for that reason.
    refused: Option<Bypass>,
    pub(super) codegen_units: Option<u32>,
    pub(super) has_crate_type: bool,
    /// Whether a codegen backend is named. Backends other than LLVM look at the processor in their own
    /// way.
    pub(super) has_backend: bool,
    pub(super) has_coverage: bool,
    /// Whether debugging information is compressed.
    pub(super) is_compressed: bool,
    pub(super) has_debuginfo: bool,
    pub(super) has_dlltool: bool,
    /// Whether `-C linker-plugin-lto` names a plugin.
    pub(super) has_linker_plugin: bool,
    pub(super) has_rpath: bool,
}

impl OptionReader {
    fn read(call: &Call, read: ReadFile<'_>) -> Result<ParsedCall, Bypass> {
        let (driver_kind, driver, rustc, arguments) = driver(call)?;
        let arguments = expand(arguments, &call.cwd, read)?;
        let mut reader = OptionReader::new(driver_kind, driver, rustc);
        if driver_kind == DriverKind::Clippy {
            let rustc = reader.rustc.rustc.clone();
            reader.rustc.words.push(Word::Path { before: OsString::new(), path: rustc });
        }
        for argument in split_arguments(&arguments)? {
            match argument {
                Argument::Option(given) => reader.option(&given)?,
                Argument::Free(argument) => reader.free(argument),
                Argument::EndOfOptions(argument) => reader.plain(argument),
            }
        }
        reader.finish(call, read)
    }

    fn new(driver_kind: DriverKind, driver: PathBuf, rustc: PathBuf) -> OptionReader {
        OptionReader {
            rustc: RustcInvocation::new(driver_kind, driver, rustc),
            sources: Vec::new(),
            question: Question::default(),
            refused: None,
            codegen_units: None,
            has_crate_type: false,
            has_backend: false,
            has_coverage: false,
            is_compressed: false,
            has_debuginfo: false,
            has_dlltool: false,
            has_linker_plugin: false,
            has_rpath: false,
        }
    }

    /// Remembers a reason not to cache this compile. The first reason is the one that is reported.
    pub(super) fn refuse(&mut self, reason: Reason, detail: impl Into<String>) {
        if self.refused.is_none() {
            self.refused = Some(Bypass::new(reason, detail));
        }
    }

    /// Remembers that the call asks a question whose answer is not cached.
    pub(super) fn ask(&mut self) {
        self.question.ask(None);
    }

    /// Adds an argument for the linker.
    pub(super) fn link_arg(&mut self, word: &str) {
        self.is_compressed |= word.contains("compress-debug-sections=z") || word.starts_with("-gz");
        self.rustc.link_args.push(word.into());
    }

    fn plain(&mut self, argument: &str) {
        self.rustc.words.push(Word::Plain(argument.into()));
    }

    /// Adds the words of an option. `wrap` makes a [`Word`] of one argument: of option and value together,
    /// or of each if they are separate arguments.
    pub(super) fn words(&mut self, given: &GivenOption<'_>, wrap: impl Fn(OsString) -> Word) {
        match given.value {
            Some(value) if given.is_apart => {
                self.rustc.words.extend([wrap(given.head.into()), wrap(value.into())]);
            }
            value => {
                let whole = format!("{}{}", given.head, value.unwrap_or_default());
                self.rustc.words.push(wrap(whole.into()));
            }
        }
    }

    /// Adds the words of an option whose value ends in a path. `inner` is the part of the value before the
    /// path, such as `dependency=`.
    pub(super) fn path_words(&mut self, given: &GivenOption<'_>, inner: &str, path: &str) {
        let before = if given.is_apart {
            self.plain(given.head);
            inner.to_owned()
        } else {
            format!("{}{inner}", given.head)
        };
        self.rustc.words.push(Word::Path { before: before.into(), path: path.into() });
    }

    fn free(&mut self, argument: &str) {
        self.sources.push(argument.to_owned());
        self.rustc.words.push(match argument {
            "-" => Word::Plain("-".into()),
            path => Word::Path { before: OsString::new(), path: path.into() },
        });
    }

    /// Reads one option: first keeps what later steps need to know, then adds the words by the option's
    /// effect on the key. Options with a syntax of their own add their words themselves and return early.
    fn option(&mut self, given: &GivenOption<'_>) -> Result<(), Bypass> {
        let value = given.value.unwrap_or_default();
        match given.option.meaning {
            Meaning::Codegen => return read_codegen(self, given, value),
            Meaning::Unstable => return read_unstable(self, given, value),
            Meaning::OutDir => self.rustc.out_dir = Some(value.into()),
            Meaning::Output => self.rustc.output_path = Some(value.into()),
            Meaning::Sysroot => self.rustc.sysroot = Some(value.into()),
            Meaning::SearchPath => return self.search(given, value),
            Meaning::Extern => return self.external(given, value),
            Meaning::Target => return self.target(given, value),
            Meaning::Emit => return self.emit(given, value),
            Meaning::CrateName => value.clone_into(&mut self.rustc.crate_name),
            Meaning::CrateType => self.crate_types(value)?,
            Meaning::Library => self.rustc.native_libraries.push(native_library(value)),
            Meaning::Print => self.print(value),
            Meaning::ErrorFormat => self.rustc.presentation.is_json = value == "json",
            Meaning::Json => self.json(value),
            Meaning::DebuginfoFull => self.has_debuginfo = true,
            Meaning::Test => self.rustc.is_test = true,
            Meaning::RemapScope => {
                self.rustc.keeps_paths |= !value.split(',').any(|scope| scope == "all");
            }
            Meaning::Lint if value == "help" => self.question.ask(None),
            _ => {}
        }
        match given.option.effect {
            KeyEffect::Question if given.option.meaning != Meaning::Print => {
                self.question.ask(Some(given.option.long));
            }
            KeyEffect::Refused(why) => {
                self.refuse(Reason::UncacheableOption, format!("--{}: {why}", given.option.long));
            }
            KeyEffect::Path => {
                self.path_words(given, "", value);
                return Ok(());
            }
            KeyEffect::Text => {
                self.words(given, Word::Text);
                return Ok(());
            }
            KeyEffect::Presentation => {
                self.words(given, Word::Presentation);
                self.rustc.presentation.options.push(format!("--{}={value}", given.option.long).into());
                return Ok(());
            }
            _ => {}
        }
        self.words(given, Word::Plain);
        Ok(())
    }

    fn search(&mut self, given: &GivenOption<'_>, value: &str) -> Result<(), Bypass> {
        let kinds = [
            ("dependency=", SearchKind::Dependency),
            ("crate=", SearchKind::Crate),
            ("native=", SearchKind::Native),
            ("framework=", SearchKind::Framework),
            ("all=", SearchKind::All),
        ];
        let prefixed = kinds.iter().find_map(|(name, kind)| Some((*name, *kind, value.strip_prefix(name)?)));
        let (inner, kind, path) = prefixed.unwrap_or(("", SearchKind::All, value));
        if path.starts_with('@') {
            // `@RUSTC_BUILTIN` is a directory that only rustc knows.
            return Err(Bypass::new(Reason::UnknownOption, format!("-L {value}")));
        }
        self.rustc.searches.push(SearchPath { kind, path: path.into() });
        self.path_words(given, inner, path);
        Ok(())
    }

    fn external(&mut self, given: &GivenOption<'_>, value: &str) -> Result<(), Bypass> {
        let (left, path) = match value.split_once('=') {
            Some((left, path)) => (left, Some(path)),
            None => (value, None),
        };
        let (options, name) = left.split_once(':').unwrap_or(("", left));
        let found = Extern { options: options.into(), name: name.into(), path: path.map(PathBuf::from) };
        self.rustc.externs.push(found);
        match path {
            Some(path) => self.path_words(given, &format!("{left}="), path),
            None => self.words(given, Word::Plain),
        }
        Ok(())
    }

    fn target(&mut self, given: &GivenOption<'_>, value: &str) -> Result<(), Bypass> {
        if value.ends_with(".json") {
            self.rustc.target = Some(TargetArgument::Spec(value.into()));
            self.rustc.files.push(FileArgument { option: "--target", path: value.into() });
            self.path_words(given, "", value);
        } else {
            self.rustc.target = Some(TargetArgument::Triple(value.to_owned()));
            self.words(given, Word::Plain);
        }
        Ok(())
    }

    fn emit(&mut self, given: &GivenOption<'_>, value: &str) -> Result<(), Bypass> {
        for one in value.split(',') {
            let (name, path) = match one.split_once('=') {
                Some((name, path)) => (name, Some(PathBuf::from(path))),
                None => (one, None),
            };
            let kind = EmitKind::from_name(name)
                .ok_or_else(|| Bypass::new(Reason::UnknownEmit, format!("--emit {name}")))?;
            // As in rustc, a later path for the same kind replaces an earlier one.
            self.rustc.emit.retain(|emit| emit.kind != kind);
            self.rustc.emit.push(Emit { kind, path });
        }
        self.words(given, Word::Text);
        Ok(())
    }

    fn crate_types(&mut self, value: &str) -> Result<(), Bypass> {
        self.has_crate_type = true;
        for name in value.split(',') {
            let crate_type = CrateType::from_name(name)
                .ok_or_else(|| Bypass::new(Reason::CrateType, format!("--crate-type {name}")))?;
            if !self.rustc.crate_types.contains(&crate_type) {
                self.rustc.crate_types.push(crate_type);
            }
        }
        Ok(())
    }

    fn print(&mut self, value: &str) {
        match value {
            PRINTED_WHILE_COMPILING => {}
            "link-args" => self.refuse(Reason::UncacheableOption, "--print link-args"),
            kind if QUESTIONS.contains(&kind) => self.question.ask(Some("print")),
            _ => self.question.ask(None),
        }
    }

    fn json(&mut self, value: &str) {
        for word in value.split(',') {
            match word {
                "artifacts" => self.rustc.presentation.announces_artifacts = true,
                "future-incompat" => self.rustc.presentation.reports_future_incompat = true,
                "diagnostic-short" | "diagnostic-rendered-ansi" => {}
                "unused-externs" | "unused-externs-silent" | "diagnostic-unicode" => {}
                // `timings` prints something else in every run.
                other => self.refuse(Reason::UnknownOption, format!("--json {other}")),
            }
        }
    }

    /// Decides what the call is, once all options are read. The order matters: a question may lack a crate
    /// name or carry options that a compile must not have, so it is recognised before these are checked.
    fn finish(mut self, call: &Call, read: ReadFile<'_>) -> Result<ParsedCall, Bypass> {
        self.set_source()?;
        if self.rustc.is_native && self.has_backend {
            self.refuse(Reason::UncacheableOption, "`native` with a codegen backend");
        }
        if self.question.is_asked || self.sources.is_empty() {
            return Ok(probe::question(self.rustc, &self.question, self.refused.as_ref(), call));
        }
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        self.set_defaults(call, read)?;
        self.check_combinations()?;
        declare_outputs(&mut self, call, read)?;
        probe::classify(self.rustc, call, read)
    }

    fn set_source(&mut self) -> Result<(), Bypass> {
        match self.sources.as_slice() {
            [] => {}
            [source] if source == "-" => self.rustc.source = CrateSource::Stdin,
            [source] => self.rustc.source = CrateSource::File(source.into()),
            [_, second, ..] => return Err(Bypass::new(Reason::UnknownOption, second.clone())),
        }
        Ok(())
    }

    /// Checks what several options mean together.
    fn check_combinations(&mut self) -> Result<(), Bypass> {
        let is_for_windows = match &self.rustc.target {
            Some(TargetArgument::Triple(triple)) => triple.contains("-windows-"),
            Some(TargetArgument::Spec(_)) => true,
            None => cfg!(windows),
        };
        let is_linked = self.rustc.is_linked();
        let refuse = |detail: &str| Err(Bypass::new(Reason::UncacheableOption, detail));
        if self.has_dlltool && is_for_windows {
            return refuse("dlltool: it names a program whose content is not known");
        }
        if self.has_linker_plugin && is_linked {
            return refuse("linker-plugin-lto: a plugin loads libraries whose content is not known");
        }
        // A result may move to another checkout only if a search of the outputs finds every path in them.
        // It cannot find a path in compressed data. With rpath, an output holds a path to the toolchain that
        // is relative to the output (`../..`): it names no root, but it is wrong in another directory.
        let has_compressed_paths = self.has_coverage || self.is_compressed;
        self.rustc.keeps_paths |= has_compressed_paths || self.has_rpath && is_linked;
        Ok(())
    }

    /// Fills in what the command line leaves out, as rustc would: crate name, outputs and crate type.
    fn set_defaults(&mut self, call: &Call, read: ReadFile<'_>) -> Result<(), Bypass> {
        let refuse = |detail: &str| Err(Bypass::new(Reason::UncacheableOption, detail));
        let rustc = &mut self.rustc;
        if rustc.crate_name.is_empty() {
            // Otherwise rustc takes the name from the source, or from the name of the file.
            match probe::name_of_unnamed_crate(&rustc.source, call) {
                Some(name) => name.clone_into(&mut rustc.crate_name),
                None => return refuse("no `--crate-name`"),
            }
        }
        if matches!(&rustc.target, Some(TargetArgument::Triple(_)))
            && call.env.get("RUST_TARGET_PATH").is_some_and(|value| !value.is_empty())
        {
            return refuse("RUST_TARGET_PATH");
        }
        if rustc.emit.is_empty() {
            rustc.emit.push(Emit { kind: EmitKind::Link, path: None });
        }
        rustc.emit.sort_by_key(|emit| emit.kind);
        if rustc.crate_types.is_empty() {
            let may_be_named_in_source = !rustc.is_test && rustc.emits(EmitKind::Link);
            // Cargo passes no `--crate-type` for tests and benchmarks without a harness.
            if may_be_named_in_source
                && !self.has_crate_type
                && !names_no_crate_type(&rustc.source, call, read)
            {
                return Err(Bypass::new(Reason::CrateType, "no `--crate-type`"));
            }
            rustc.crate_types.push(CrateType::Bin);
        }
        Ok(())
    }
}

/// Whether a source can be read and does not contain the word `crate_type`, so that rustc makes a program.
/// The source is an input and counts by content, so the answer is the same for every call with the same key.
fn names_no_crate_type(source: &CrateSource, call: &Call, read: ReadFile<'_>) -> bool {
    let CrateSource::File(path) = source else { return false };
    let text = read(&call.cwd.join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| !text.contains("crate_type"))
}

/// Splits the command line into the kind of program, the program that runs, the rustc that cargo named, and
/// the arguments of the compile.
fn driver(call: &Call) -> Result<(DriverKind, PathBuf, PathBuf, &[OsString]), Bypass> {
    let name = |program: &OsString| {
        Path::new(program).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let unknown = |what: String| Bypass::new(Reason::UnknownCompiler, what);
    let (program, arguments) = call.argv.split_first().ok_or_else(|| unknown(String::new()))?;
    match name(program).as_str() {
        "rustc" => Ok((DriverKind::Rustc, program.into(), program.into(), arguments)),
        "clippy-driver" => match arguments.split_first() {
            Some((rustc, arguments)) if name(rustc) == "rustc" => {
                Ok((DriverKind::Clippy, program.into(), rustc.into(), arguments))
            }
            _ => Err(unknown("clippy-driver without rustc".to_owned())),
        },
        other => Err(unknown(other.to_owned())),
    }
}

fn native_library(value: &str) -> NativeLibrary {
    let (left, name) = match value.split_once('=') {
        Some((left, name)) => (Some(left), name),
        None => (None, value),
    };
    let (kind, modifiers) = match left {
        Some(left) => {
            let (kind, modifiers) = left.split_once(':').unwrap_or((left, ""));
            (Some(kind.to_owned()), modifiers.to_owned())
        }
        None => (None, String::new()),
    };
    let (name, rename) = match name.split_once(':') {
        Some((name, rename)) => (name.to_owned(), Some(rename.to_owned())),
        None => (name.to_owned(), None),
    };
    NativeLibrary { kind, modifiers, name, rename }
}
