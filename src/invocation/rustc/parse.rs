//! From a command line to a [`Parsed`]. Pure: argument files and target descriptions are read
//! through the function that the caller hands in.
//!
//! Invariant (KEY-10): whatever is not in the tables makes the call a named bypass.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::argfile::expand;
use super::arguments::{Given, Item, items};
use super::codegen::{read_codegen, read_unstable};
use super::made::made;
use super::options::{KeyEffect, Meaning, PRINTED_WHILE_COMPILING, QUESTIONS};
use super::probe::{self, Question};
use super::types::{
    CrateType, DriverKind, Emit, EmitKind, Extern, FileArgument, NativeLibrary, Parsed, Rustc, Search,
    SearchKind, Source, TargetArgument, Word,
};
use crate::invocation::{Bypass, Call, Reason};

/// How files are read while parsing: argument files, and descriptions of targets.
pub type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Reads a call's command line.
pub fn parse(call: &Call, read: Read<'_>) -> Parsed {
    match Reader::read(call, read) {
        Ok(parsed) => parsed,
        Err(bypass) => Parsed::Bypass(bypass),
    }
}

/// What has been read so far.
pub(super) struct Reader {
    pub(super) rustc: Rustc,
    /// Free arguments.
    sources: Vec<String>,
    /// Whether something asks (`-V`, `--print`), and how.
    question: Question,
    /// The first thing that keeps a compile from being cached. A question has its own rules.
    refused: Option<Bypass>,
    pub(super) codegen_units: Option<u32>,
    pub(super) has_crate_type: bool,
    /// Whether a code generator is named. Another one than LLVM looks at the processor itself.
    pub(super) has_backend: bool,
    pub(super) has_coverage: bool,
    /// Whether debugging information is compressed.
    pub(super) compresses: bool,
    pub(super) has_debuginfo: bool,
    pub(super) has_dlltool: bool,
    /// Whether the linker is given a plugin for optimisation at link time.
    pub(super) has_linker_plugin: bool,
    pub(super) has_rpath: bool,
}

impl Reader {
    fn read(call: &Call, read: Read<'_>) -> Result<Parsed, Bypass> {
        let (driver_kind, driver, rustc, arguments) = driver(call)?;
        let arguments = expand(arguments, &call.cwd, read)?;
        let mut reader = Reader::new(driver_kind, driver, rustc);
        if driver_kind == DriverKind::Clippy {
            let rustc = reader.rustc.rustc.clone();
            reader.rustc.words.push(Word::Path { before: OsString::new(), path: rustc });
        }
        for item in items(&arguments)? {
            match item {
                Item::Option(given) => reader.option(&given)?,
                Item::Free(argument) => reader.free(argument),
                Item::End(argument) => reader.plain(argument),
            }
        }
        reader.finish(call, read)
    }

    fn new(driver_kind: DriverKind, driver: PathBuf, rustc: PathBuf) -> Reader {
        Reader {
            rustc: Rustc::nothing(driver_kind, driver, rustc),
            sources: Vec::new(),
            question: Question::default(),
            refused: None,
            codegen_units: None,
            has_crate_type: false,
            has_backend: false,
            has_coverage: false,
            compresses: false,
            has_debuginfo: false,
            has_dlltool: false,
            has_linker_plugin: false,
            has_rpath: false,
        }
    }

    /// Remembers why this is no compile for kache; the first reason is the one reported.
    pub(super) fn refuse(&mut self, reason: Reason, detail: impl Into<String>) {
        if self.refused.is_none() {
            self.refused = Some(Bypass::new(reason, detail));
        }
    }

    /// The call asks something that only the compiler knows to answer.
    pub(super) fn ask(&mut self) {
        self.question.ask(None);
    }

    /// A word for the linker.
    pub(super) fn link_arg(&mut self, word: &str) {
        self.compresses |= word.contains("compress-debug-sections=z") || word.starts_with("-gz");
        self.rustc.link_args.push(word.into());
    }

    fn plain(&mut self, argument: &str) {
        self.rustc.words.push(Word::Plain(argument.into()));
    }

    /// The words of an option: `wrap` makes one of what stands before the value and the value.
    pub(super) fn words(&mut self, given: &Given<'_>, wrap: impl Fn(OsString) -> Word) {
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

    /// The words of an option whose value ends in a path. `inner` stands before the path.
    pub(super) fn path_words(&mut self, given: &Given<'_>, inner: &str, path: &str) {
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

    fn option(&mut self, given: &Given<'_>) -> Result<(), Bypass> {
        let value = given.value.unwrap_or_default();
        match given.option.meaning {
            Meaning::Codegen => return read_codegen(self, given, value),
            Meaning::Unstable => return read_unstable(self, given, value),
            Meaning::OutDir => self.rustc.out_dir = Some(value.into()),
            Meaning::Output => self.rustc.output = Some(value.into()),
            Meaning::Sysroot => self.rustc.sysroot = Some(value.into()),
            Meaning::Search => return self.search(given, value),
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

    fn search(&mut self, given: &Given<'_>, value: &str) -> Result<(), Bypass> {
        let kinds = [
            ("dependency=", SearchKind::Dependency),
            ("crate=", SearchKind::Crate),
            ("native=", SearchKind::Native),
            ("framework=", SearchKind::Framework),
            ("all=", SearchKind::All),
        ];
        let known = kinds.iter().find_map(|(name, kind)| Some((*name, *kind, value.strip_prefix(name)?)));
        let (inner, kind, path) = known.unwrap_or(("", SearchKind::All, value));
        if path.starts_with('@') {
            // `@RUSTC_BUILTIN`: a place that only rustc knows.
            return Err(Bypass::new(Reason::UnknownOption, format!("-L {value}")));
        }
        self.rustc.searches.push(Search { kind, path: path.into() });
        self.path_words(given, inner, path);
        Ok(())
    }

    fn external(&mut self, given: &Given<'_>, value: &str) -> Result<(), Bypass> {
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

    fn target(&mut self, given: &Given<'_>, value: &str) -> Result<(), Bypass> {
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

    fn emit(&mut self, given: &Given<'_>, value: &str) -> Result<(), Bypass> {
        for one in value.split(',') {
            let (name, path) = match one.split_once('=') {
                Some((name, path)) => (name, Some(PathBuf::from(path))),
                None => (one, None),
            };
            let kind = EmitKind::from_name(name)
                .ok_or_else(|| Bypass::new(Reason::UnknownEmit, format!("--emit {name}")))?;
            // The last word on a kind stands, as in rustc's map.
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
                // `timings` says something else every time.
                other => self.refuse(Reason::UnknownOption, format!("--json {other}")),
            }
        }
    }

    fn finish(mut self, call: &Call, read: Read<'_>) -> Result<Parsed, Bypass> {
        self.settle_source()?;
        if self.rustc.is_native && self.has_backend {
            self.refuse(Reason::UncacheableOption, "`native` with another code generator");
        }
        if self.question.is_asked || self.sources.is_empty() {
            return Ok(probe::question(self.rustc, &self.question, self.refused.as_ref(), call));
        }
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        self.settle(call, read)?;
        self.settle_options()?;
        made(&mut self, call, read)?;
        probe::sort(self.rustc, call, read)
    }

    fn settle_source(&mut self) -> Result<(), Bypass> {
        match self.sources.as_slice() {
            [] => {}
            [source] if source == "-" => self.rustc.source = Source::Stdin,
            [source] => self.rustc.source = Source::File(source.into()),
            [_, second, ..] => return Err(Bypass::new(Reason::UnknownOption, second.clone())),
        }
        Ok(())
    }

    /// What options mean together, once all of them are known.
    fn settle_options(&mut self) -> Result<(), Bypass> {
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
        // A path that is compressed is not found in an output, and one that leads from an output to
        // the toolchain by `..` does not name either. So such a result belongs to its place.
        let is_compressed = self.has_coverage || self.compresses;
        self.rustc.keeps_paths |= is_compressed || self.has_rpath && is_linked;
        Ok(())
    }

    fn settle(&mut self, call: &Call, read: Read<'_>) -> Result<(), Bypass> {
        let refuse = |detail: &str| Err(Bypass::new(Reason::UncacheableOption, detail));
        let rustc = &mut self.rustc;
        if rustc.crate_name.is_empty() {
            // The name may stand in the source, or be that of its file.
            match probe::unnamed(&rustc.source, call) {
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
            // Cargo names none for tests and benches without a harness.
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

/// Whether a source can be read and does not say of which type its crate is. It counts by content,
/// so what is found in it holds for all that is found by it.
fn names_no_crate_type(source: &Source, call: &Call, read: Read<'_>) -> bool {
    let Source::File(path) = source else { return false };
    let text = read(&call.cwd.join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.is_some_and(|text| !text.contains("crate_type"))
}

/// Which program is called, and what follows it.
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
