//! The tables of the options of rustc that kache knows, and the effect of each on the key (KEY-09, KEY-10).
//!
//! Pure data. A call with an option that is not in these tables is a bypass, and the report names the
//! option. The tables follow `rustc --help -v` and `rustc -C help` of 1.95; the table of `-Z` is in
//! [`super::unstable`]. `docs/cache-key.md` is printed from them, and a test compares them with what the
//! compiler itself lists.

/// The effect of an option on the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEffect {
    /// The option counts as it is.
    Counts,
    /// The option counts, and the path in it counts by role.
    Path,
    /// The option counts, with stand-ins for the paths of roots in it.
    Text,
    /// The option counts, the path in it counts by role, and the content of the file counts, too.
    File,
    /// The option decides how messages look, so it counts only for results that have messages.
    Presentation,
    /// The option does not count, and a compile whose result is stored runs without it.
    Stripped,
    /// A call with this option asks the compiler a question and compiles nothing.
    Question,
    /// A call with this option is a bypass, for this reason.
    Refused(&'static str),
}

impl KeyEffect {
    /// Returns the text for the tables in `docs/cache-key.md`.
    pub fn explanation(self) -> &'static str {
        match self {
            KeyEffect::Counts => "counts",
            KeyEffect::Path => "counts, with its path by role",
            KeyEffect::Text => "counts, with stand-ins for the paths of roots",
            KeyEffect::File => "counts, with the content of its file",
            KeyEffect::Presentation => "counts if there are messages",
            KeyEffect::Stripped => "does not count and is removed",
            KeyEffect::Question => "the call asks a question and compiles nothing",
            KeyEffect::Refused(why) => why,
        }
    }
}

/// The use that the parser makes of an option, besides keeping its words. Each variant is named for an
/// option, or for options that the parser treats alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The parser needs nothing of the option.
    Nothing,
    CrateName,
    CrateType,
    Emit,
    OutDir,
    Output,
    Extern,
    SearchPath,
    Library,
    Codegen,
    Unstable,
    Target,
    Sysroot,
    Print,
    ErrorFormat,
    Json,
    Test,
    RemapScope,
    /// A lint level; the value `help` makes the call a question.
    Lint,
    /// `-g`
    DebuginfoFull,
    // From here on: options of `-C` and `-Z`.
    CodegenUnits,
    Compression,
    Coverage,
    CrateAttribute,
    Debuginfo,
    Dlltool,
    ExtraFilename,
    Incremental,
    Linker,
    LinkArg,
    LinkArgs,
    LinkerPlugin,
    LlvmArgs,
    Passes,
    ProfileUse,
    SampleUse,
    Rpath,
    SaveTemps,
    SplitDebuginfo,
    TargetCpu,
    Backend,
}

/// One option of rustc's command line.
#[derive(Clone, Copy, Debug)]
pub struct CompilerOption {
    /// The letter of the short form (`-C`); `\0` if there is none.
    pub short: char,
    /// The long form without the dashes (`codegen`); empty if there is none.
    pub long: &'static str,
    /// Whether the option needs a value.
    pub takes_value: bool,
    /// The effect of the option on the key.
    pub effect: KeyEffect,
    pub(super) meaning: Meaning,
}

const fn row(
    short: char,
    long: &'static str,
    takes_value: bool,
    effect: KeyEffect,
    meaning: Meaning,
) -> CompilerOption {
    CompilerOption { short, long, takes_value, effect, meaning }
}

use KeyEffect as E;
use Meaning as M;

/// All options except those of `-C` and `-Z`.
pub const OPTIONS: &[CompilerOption] = &[
    row('h', "help", false, E::Question, M::Nothing),
    row('\0', "cfg", true, E::Counts, M::Nothing),
    row('\0', "check-cfg", true, E::Counts, M::Nothing),
    row('L', "", true, E::Path, M::SearchPath),
    row('l', "", true, E::Counts, M::Library),
    row('\0', "crate-type", true, E::Counts, M::CrateType),
    row('\0', "crate-name", true, E::Counts, M::CrateName),
    row('\0', "edition", true, E::Counts, M::Nothing),
    row('\0', "emit", true, E::Text, M::Emit),
    row('\0', "print", true, E::Question, M::Print),
    row('g', "", false, E::Counts, M::DebuginfoFull),
    row('O', "", false, E::Counts, M::Nothing),
    row('o', "", true, E::Path, M::Output),
    row('\0', "out-dir", true, E::Path, M::OutDir),
    row('\0', "env-set", true, E::Refused("it sets a variable that a lookup does not see"), M::Nothing),
    row('\0', "explain", true, E::Question, M::Nothing),
    row('\0', "jobs-backend", true, E::Counts, M::Nothing),
    row('\0', "jobs-frontend", true, E::Counts, M::Nothing),
    row('\0', "test", false, E::Counts, M::Test),
    row('\0', "target", true, E::File, M::Target),
    row('A', "allow", true, E::Counts, M::Lint),
    row('W', "warn", true, E::Counts, M::Lint),
    row('\0', "force-warn", true, E::Counts, M::Lint),
    row('D', "deny", true, E::Counts, M::Lint),
    row('F', "forbid", true, E::Counts, M::Lint),
    row('\0', "cap-lints", true, E::Counts, M::Nothing),
    row('C', "codegen", true, E::Counts, M::Codegen),
    row('Z', "", true, E::Counts, M::Unstable),
    row('V', "version", false, E::Question, M::Nothing),
    row('v', "verbose", false, E::Counts, M::Nothing),
    row('\0', "extern", true, E::File, M::Extern),
    row('\0', "sysroot", true, E::Path, M::Sysroot),
    row('\0', "error-format", true, E::Presentation, M::ErrorFormat),
    row('\0', "json", true, E::Presentation, M::Json),
    row('\0', "color", true, E::Presentation, M::Nothing),
    row('\0', "diagnostic-width", true, E::Presentation, M::Nothing),
    row('\0', "remap-path-prefix", true, E::Text, M::Nothing),
    row('\0', "remap-path-scope", true, E::Counts, M::RemapScope),
];

/// An option of `-C` or `-Z`.
#[derive(Clone, Copy, Debug)]
pub struct SubOption {
    /// The name, with dashes.
    pub name: &'static str,
    /// The effect of the option on the key.
    pub effect: KeyEffect,
    pub(super) meaning: Meaning,
}

pub(super) const fn sub(name: &'static str, effect: KeyEffect, meaning: Meaning) -> SubOption {
    SubOption { name, effect, meaning }
}

pub(super) const fn counts(name: &'static str) -> SubOption {
    sub(name, E::Counts, M::Nothing)
}

/// The options of `-C`: all of rustc 1.95.
pub const CODEGEN: &[SubOption] = &[
    counts("ar"),
    counts("code-model"),
    sub("codegen-units", E::Counts, M::CodegenUnits),
    counts("collapse-macro-debuginfo"),
    counts("control-flow-guard"),
    counts("debug-assertions"),
    sub("debuginfo", E::Counts, M::Debuginfo),
    counts("default-linker-libraries"),
    sub("dlltool", E::Counts, M::Dlltool),
    counts("dwarf-version"),
    counts("embed-bitcode"),
    sub("extra-filename", E::Counts, M::ExtraFilename),
    counts("force-frame-pointers"),
    counts("force-unwind-tables"),
    sub("help", E::Question, M::Nothing),
    sub("incremental", E::Stripped, M::Incremental),
    counts("inline-threshold"),
    sub("instrument-coverage", E::Counts, M::Coverage),
    counts("jump-tables"),
    sub("link-arg", E::Text, M::LinkArg),
    sub("link-args", E::Text, M::LinkArgs),
    counts("link-dead-code"),
    counts("link-self-contained"),
    sub("linker", E::File, M::Linker),
    counts("linker-features"),
    counts("linker-flavor"),
    sub("linker-plugin-lto", E::Counts, M::LinkerPlugin),
    sub("llvm-args", E::Counts, M::LlvmArgs),
    counts("lto"),
    counts("metadata"),
    counts("no-prepopulate-passes"),
    counts("no-redzone"),
    counts("no-stack-check"),
    counts("no-vectorize-loops"),
    counts("no-vectorize-slp"),
    counts("opt-level"),
    counts("overflow-checks"),
    counts("panic"),
    sub("passes", E::Counts, M::Passes),
    counts("prefer-dynamic"),
    counts("profile-generate"),
    sub("profile-use", E::File, M::ProfileUse),
    counts("relocation-model"),
    counts("relro-level"),
    counts("remark"),
    sub("rpath", E::Counts, M::Rpath),
    sub("save-temps", E::Counts, M::SaveTemps),
    counts("soft-float"),
    sub("split-debuginfo", E::Counts, M::SplitDebuginfo),
    counts("strip"),
    counts("symbol-mangling-version"),
    sub("target-cpu", E::Counts, M::TargetCpu),
    counts("target-feature"),
    counts("unsafe-allow-abi-mismatch"),
];

/// The kinds of `--print` that compile nothing and whose answers follow from the arguments and the toolchain
/// alone. `target-cpus` and `target-features` are missing, because they look at the processor.
pub(super) const QUESTIONS: &[&str] = &[
    "calling-conventions",
    "cfg",
    "code-models",
    "crate-name",
    "file-names",
    "host-tuple",
    "relocation-models",
    "split-debuginfo",
    "stack-protector-strategies",
    "supported-crate-types",
    "sysroot",
    "target-libdir",
    "target-list",
    "tls-models",
];

/// The only kind of `--print` within a compile that prints the same in every run; `link-args` names
/// temporary files.
pub(super) const PRINTED_WHILE_COMPILING: &str = "native-static-libs";

/// The passes of LLVM that were checked and are allowed: fuzzers and targets without atomics use them.
pub(super) const PASSES: &[&str] =
    &["inferattrs", "lower-atomic", "loweratomic", "name-anon-globals", "sancov", "sancov-module"];

/// The beginnings of LLVM's options that were checked and are allowed: they control passes and write no
/// file.
pub(super) const LLVM_ARGS: &[&str] = &[
    "-aarch64-",
    "-align-",
    "-arm-",
    "-disable-",
    "-enable-",
    "-force-",
    "-fp-contract",
    "-hot-cold-",
    "-import-",
    "-inline-",
    "-inlinehint-",
    "-instcombine-",
    "-loop-",
    "-max-",
    "-pgo-warn-",
    "-riscv-",
    "-runtime-counter-relocation",
    "-sanitizer-coverage-",
    "-slp-",
    "-unroll-",
    "-vectorize",
    "-wasm-",
    "-x86-",
];

/// Returns the option with this short name; `None` if kache does not know it.
pub(super) fn by_short(name: char) -> Option<&'static CompilerOption> {
    OPTIONS.iter().find(|option| name != '\0' && option.short == name)
}

/// Returns the option with this long name; `None` if kache does not know it.
pub(super) fn by_long(name: &str) -> Option<&'static CompilerOption> {
    OPTIONS.iter().find(|option| !name.is_empty() && option.long == name)
}

/// Returns the sub-option with this name; `None` if kache does not know it. Like rustc, it takes an
/// underscore for a dash.
pub(super) fn by_name(table: &'static [SubOption], name: &str) -> Option<&'static SubOption> {
    let same = |option: &&SubOption| {
        option.name.len() == name.len()
            && option.name.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'-' && b == b'_'))
    };
    table.iter().find(same)
}
