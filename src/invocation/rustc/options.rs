//! Every option of rustc that kache knows, and what each does to the key (KEY-09, KEY-10).
//!
//! Pure data. An option that is not in these tables is passed on to the compiler unread, and
//! the report names it. The tables follow `rustc --help -v` and `rustc -C help` of 1.95; those of
//! `-Z` are in [`super::unstable`]. `docs/cache-key.md` is printed from them, and a test compares
//! them with what the compiler itself lists.

/// What an option does to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEffect {
    /// It counts as it is.
    Counts,
    /// The path in it counts by role.
    Path,
    /// It counts, with stand-ins for roots.
    Text,
    /// The path in it counts by role, and the file's content counts, too.
    File,
    /// It decides how messages look: counts only for results that have messages.
    Presentation,
    /// It is taken out.
    Stripped,
    /// A call that has it is a question, not a compile.
    Question,
    /// A call that has it is passed on, for this reason.
    Refused(&'static str),
}

impl KeyEffect {
    /// For the table in the documentation.
    pub fn explanation(self) -> &'static str {
        match self {
            KeyEffect::Counts => "counts",
            KeyEffect::Path => "counts, its path by role",
            KeyEffect::Text => "counts, paths below roots by role",
            KeyEffect::File => "counts, its file by content",
            KeyEffect::Presentation => "counts where there are messages",
            KeyEffect::Stripped => "is taken out",
            KeyEffect::Question => "a question, not a compile",
            KeyEffect::Refused(why) => why,
        }
    }
}

/// What the parser keeps of an option besides its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing.
    Nothing,
    CrateName,
    CrateType,
    Emit,
    OutDir,
    Output,
    Extern,
    Search,
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
    /// A lint level: `help` asks.
    Lint,
    /// `-g`
    DebuginfoFull,
    // Those of `-C` and `-Z`.
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

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct CompilerOption {
    /// `-C`; `\0` where there is none.
    pub short: char,
    /// `--codegen`, without the dashes; empty where there is none.
    pub long: &'static str,
    /// Whether a value follows.
    pub takes_value: bool,
    /// What it does to the key.
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

/// The options themselves.
pub const OPTIONS: &[CompilerOption] = &[
    row('h', "help", false, E::Question, M::Nothing),
    row('\0', "cfg", true, E::Counts, M::Nothing),
    row('\0', "check-cfg", true, E::Counts, M::Nothing),
    row('L', "", true, E::Path, M::Search),
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
    row(
        '\0',
        "env-set",
        true,
        E::Refused("it gives the compile a variable that a lookup does not see"),
        M::Nothing,
    ),
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
    /// Its name, with dashes.
    pub name: &'static str,
    /// What it does to the key.
    pub effect: KeyEffect,
    pub(super) meaning: Meaning,
}

pub(super) const fn sub(name: &'static str, effect: KeyEffect, meaning: Meaning) -> SubOption {
    SubOption { name, effect, meaning }
}

pub(super) const fn counts(name: &'static str) -> SubOption {
    sub(name, E::Counts, M::Nothing)
}

/// Those of `-C`: all that 1.95 knows.
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

/// Kinds of `--print` that stop before compiling and whose answers follow from arguments and
/// toolchain alone. `target-cpus` and `target-features` look at the processor.
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

/// The one kind of `--print` that goes along with a compile and is the same every time.
/// `link-args` names temporary files.
pub(super) const PRINTED_WHILE_COMPILING: &str = "native-static-libs";

/// LLVM's passes that were looked at: fuzzers and targets without atomics have them run.
pub(super) const PASSES: &[&str] =
    &["inferattrs", "lower-atomic", "loweratomic", "name-anon-globals", "sancov", "sancov-module"];

/// Beginnings of LLVM's options that were looked at: they steer passes and write no file.
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

/// The option with this short name.
pub(super) fn by_short(name: char) -> Option<&'static CompilerOption> {
    OPTIONS.iter().find(|option| name != '\0' && option.short == name)
}

/// The option with this long name.
pub(super) fn by_long(name: &str) -> Option<&'static CompilerOption> {
    OPTIONS.iter().find(|option| !name.is_empty() && option.long == name)
}

/// The sub-option with this name. rustc takes dashes and underscores alike.
pub(super) fn by_name(table: &'static [SubOption], name: &str) -> Option<&'static SubOption> {
    let same = |option: &&SubOption| {
        option.name.len() == name.len()
            && option.name.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'-' && b == b'_'))
    };
    table.iter().find(same)
}
