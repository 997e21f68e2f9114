//! Values: what a key's text means, and how it is written back.
//!
//! Pure. Every value has one canonical text, and reading that text gives the value again:
//! a daemon is handed its settings in that form.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::glob::{PathGlob, Pattern};
use super::serve::{ListenAddress, MetricsDoor};

/// What belongs into a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A path.
    Path,
    /// A number of bytes.
    Size,
    /// A length of time.
    Duration,
    /// Yes or no.
    Bool,
    /// A host and a port.
    Address,
    /// Where metrics are answered.
    Metrics,
    /// How much is logged.
    Level,
    /// A list of names.
    Names,
    /// A text.
    Text,
    /// A number.
    Count,
    /// A program, by its name or its path.
    Program,
    /// A list of paths.
    Paths,
    /// A list of globs for paths.
    PathGlobs,
    /// A list of globs for words.
    Patterns,
    /// A list of names of variables; a `*` may end one.
    VariableNames,
    /// Whether a line is written for each crate.
    Progress,
    /// What a file of a checkout and the store's may share.
    Sharing,
}

/// What a file of a checkout and the store's may share at most. Each allows what stands above
/// it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileSharing {
    /// Nothing: every file is a full copy.
    Copy,
    /// Blocks, where the filesystem copies them on write.
    Reflink,
    /// The inode, where blocks cannot be shared.
    #[default]
    Hardlink,
}

impl FileSharing {
    const ALL: [FileSharing; 3] = [FileSharing::Reflink, FileSharing::Hardlink, FileSharing::Copy];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            FileSharing::Copy => "copy",
            FileSharing::Reflink => "reflink",
            FileSharing::Hardlink => "hardlink",
        }
    }
}

/// Whether a line is written for each crate, to the terminal or log of the build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Where the build's standard error is a log that people read: no terminal, and `CI` is
    /// set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Progress {
    const ALL: [Progress; 3] = [Progress::Auto, Progress::Always, Progress::Never];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Progress::Auto => "auto",
            Progress::Always => "always",
            Progress::Never => "never",
        }
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What is odd.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    const ALL: [Level; 6] = [Level::Off, Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

/// A value, of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A path; absolute once it is loaded.
    Path(PathBuf),
    /// Bytes.
    Size(u64),
    /// A length of time, in whole seconds.
    Duration(Duration),
    /// Yes or no.
    Bool(bool),
    /// A host and a port.
    Address(ListenAddress),
    /// Where metrics are answered.
    Metrics(MetricsDoor),
    /// How much is logged.
    Level(Level),
    /// Names, globs or patterns.
    Names(Vec<String>),
    /// A text.
    Text(String),
    /// A number.
    Count(u64),
    /// A program: a bare name, or an absolute path once it is loaded.
    Program(PathBuf),
    /// Paths; absolute once they are loaded.
    Paths(Vec<PathBuf>),
    /// Whether a line is written for each crate.
    Progress(Progress),
    /// What a file of a checkout and the store's may share.
    Sharing(FileSharing),
}

impl Kind {
    /// What belongs there, for an error's hint.
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Path => "a path in quotes, such as \"/var/cache/kache\" or \"~/cache\"",
            Kind::Size => "a number of bytes or a size with its unit, such as \"20GiB\" or \"500MB\"",
            Kind::Duration => {
                "a number of seconds or a time with its unit, such as \"600s\", \"10m\" or \"2h\""
            }
            Kind::Bool => "true or false",
            Kind::Address => "a host and a port, such as \"127.0.0.1:9092\" or \"[::1]:9092\"",
            Kind::Metrics => "\"shared\", \"off\", or an address such as \"127.0.0.1:9093\"",
            Kind::Level => "one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            Kind::Names => "a list of names, such as [\"cache.example\"]",
            Kind::Text => "a text in quotes",
            Kind::Count => "a number, such as 100",
            Kind::Program => "a program in quotes, such as \"sccache\" or \"/usr/bin/sccache\"",
            Kind::Paths => "a list of paths, such as [\"/srv/sources\", \"..\"]",
            Kind::PathGlobs => "a list of globs for paths, such as [\"vendor/**\", \"/opt/**/*.rs\"]",
            Kind::Patterns => "a list of words, in which `*` stands for anything, such as [\"my_*\"]",
            Kind::VariableNames => "a list of names of variables, such as [\"MY_FLAG\", \"MY_APP_*\"]",
            Kind::Progress => "one of \"auto\", \"always\", \"never\"",
            Kind::Sharing => "one of \"reflink\", \"hardlink\", \"copy\"",
        }
    }

    /// Reads a text; `None` if it is not of this kind.
    pub fn read(self, text: &str) -> Option<Value> {
        match self {
            Kind::Path => is_path(text).then(|| Value::Path(text.into())),
            Kind::Size => read_size(text).map(Value::Size),
            Kind::Duration => read_duration(text).map(Value::Duration),
            Kind::Bool => read_bool(text).map(Value::Bool),
            Kind::Address => text.parse().ok().map(Value::Address),
            Kind::Metrics => read_metrics(text).map(Value::Metrics),
            Kind::Level => Level::ALL.into_iter().find(|level| level.name() == text).map(Value::Level),
            Kind::Text => Some(Value::Text(text.to_owned())),
            Kind::Count => text.parse().ok().map(Value::Count),
            Kind::Program => is_path(text).then(|| Value::Program(text.into())),
            Kind::Paths => self.read_list(text.split(':')),
            Kind::Names | Kind::PathGlobs | Kind::Patterns | Kind::VariableNames => {
                self.read_list(text.split(','))
            }
            Kind::Progress => {
                Progress::ALL.into_iter().find(|progress| progress.name() == text).map(Value::Progress)
            }
            Kind::Sharing => {
                FileSharing::ALL.into_iter().find(|sharing| sharing.name() == text).map(Value::Sharing)
            }
        }
    }

    /// Reads a list; `None` if one of these is none of this kind.
    pub fn read_list<'a>(self, items: impl IntoIterator<Item = &'a str>) -> Option<Value> {
        let is_right = |item: &str| match self {
            Kind::Names => is_name(item),
            Kind::Paths => is_path(item),
            Kind::PathGlobs => PathGlob::new(item).is_some(),
            Kind::Patterns => Pattern::new(item).is_some(),
            Kind::VariableNames => is_variable_name(item),
            _ => false,
        };
        let items: Vec<&str> = items.into_iter().map(str::trim).collect();
        if !self.takes_lists() || !items.iter().all(|item| is_right(item)) {
            return None;
        }
        Some(match self {
            Kind::Paths => Value::Paths(items.into_iter().map(PathBuf::from).collect()),
            _ => Value::Names(items.into_iter().map(str::to_owned).collect()),
        })
    }

    /// Whether a whole number without quotes is welcome.
    pub fn takes_numbers(self) -> bool {
        matches!(self, Kind::Size | Kind::Duration | Kind::Count)
    }

    /// Whether it is a list, which a file writes with brackets.
    pub fn takes_lists(self) -> bool {
        matches!(self, Kind::Names | Kind::Paths | Kind::PathGlobs | Kind::Patterns | Kind::VariableNames)
    }

    /// Whether a variable may say it with bytes that are no text.
    pub fn takes_bytes(self) -> bool {
        matches!(self, Kind::Path | Kind::Program)
    }
}

const BINARY_UNITS: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

const DECIMAL_UNITS: &[(&str, u64)] =
    &[("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];

const SHORT_UNITS: &[(&str, u64)] = &[
    ("kB", 1_000),
    // Alone, the letters mean what `du` and most build tools mean by them.
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

const DURATION_UNITS: &[(&str, u64)] =
    &[("days", 86_400), ("day", 86_400), ("d", 86_400), ("h", 3_600), ("min", 60), ("m", 60), ("s", 1)];

/// The longest time that makes sense here, and that no sum of times overflows.
const DURATION_S_MAX: u64 = 100 * 365 * 86_400;

fn read_size(text: &str) -> Option<u64> {
    let units = [BINARY_UNITS, DECIMAL_UNITS, SHORT_UNITS].concat();
    with_unit(text, &units)
}

fn read_duration(text: &str) -> Option<Duration> {
    if text == "never" {
        return Some(Duration::ZERO);
    }
    with_unit(text, DURATION_UNITS).filter(|seconds| *seconds <= DURATION_S_MAX).map(Duration::from_secs)
}

/// A number with one of the units, or without any: `20GiB`, `1.5 GiB`, `600`.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    for (unit, factor) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return scaled(number.trim_end(), *factor);
        }
    }
    scaled(text, 1)
}

/// A decimal number times a factor, rounded down, without going through floats.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    /// More digits behind the point than this say nothing.
    const FRACTION_DIGITS_MAX: usize = 9;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits = whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(fraction.parse().ok()?)?;
    u64::try_from(digits.checked_mul(u128::from(factor))? / scale).ok()
}

fn read_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn read_metrics(text: &str) -> Option<MetricsDoor> {
    match text {
        "shared" => Some(MetricsDoor::Shared),
        "off" => Some(MetricsDoor::Off),
        _ => text.parse().ok().map(MetricsDoor::Own),
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
}

/// A name that a program would give a variable, or the beginning of such names and a `*`.
/// The `*` alone would key on the whole environment, and nothing would ever be found again.
fn is_variable_name(name: &str) -> bool {
    let name = name.strip_suffix('*').unwrap_or(name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '=' | '*' | ','))
}

/// The largest unit that leaves a whole number.
fn write_unit(number: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor));
    fits.map_or_else(|| number.to_string(), |(unit, factor)| format!("{}{unit}", number / factor))
}

/// As people would write it: "20GiB" and "500MB", whichever is shorter.
fn write_size(bytes: u64) -> String {
    let (binary, decimal) = (write_unit(bytes, BINARY_UNITS), write_unit(bytes, DECIMAL_UNITS));
    if decimal.len() < binary.len() { decimal } else { binary }
}

impl Value {
    /// Adds what another place says: lists become longer, texts stand on lines of their own.
    /// Anything else stays as it is.
    pub fn add(&mut self, other: Value) {
        match (self, other) {
            (Value::Names(names), Value::Names(more)) => {
                names.extend(more);
                let mut seen = BTreeSet::new();
                names.retain(|name| seen.insert(name.clone()));
            }
            (Value::Paths(paths), Value::Paths(more)) => {
                paths.extend(more);
                let mut seen = BTreeSet::new();
                paths.retain(|path| seen.insert(path.clone()));
            }
            (Value::Text(text), Value::Text(more)) if text.is_empty() => *text = more,
            (Value::Text(text), Value::Text(more)) if !more.is_empty() => {
                text.push('\n');
                text.push_str(&more);
            }
            _ => {}
        }
    }

    /// The text for an environment variable. Paths keep bytes that are no text.
    pub fn to_variable(&self) -> OsString {
        match self {
            Value::Path(path) | Value::Program(path) => path.clone().into_os_string(),
            other => other.to_string().into(),
        }
    }

    /// As a TOML file would say it.
    pub fn to_toml(&self) -> String {
        match self {
            Value::Bool(yes) => yes.to_string(),
            Value::Count(number) => number.to_string(),
            Value::Names(names) => toml::Value::from(names.clone()).to_string(),
            Value::Paths(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                toml::Value::from(paths).to_string()
            }
            other => toml::Value::from(other.to_string()).to_string(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Path(path) | Value::Program(path) => write!(f, "{}", path.display()),
            Value::Paths(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&paths.join(":"))
            }
            Value::Text(text) => f.write_str(text),
            Value::Count(number) => write!(f, "{number}"),
            Value::Progress(progress) => f.write_str(progress.name()),
            Value::Sharing(sharing) => f.write_str(sharing.name()),
            Value::Size(bytes) => f.write_str(&write_size(*bytes)),
            Value::Duration(time) if time.is_zero() => f.write_str("never"),
            Value::Duration(time) => write!(f, "{}s", time.as_secs()),
            Value::Bool(yes) => write!(f, "{yes}"),
            Value::Address(address) | Value::Metrics(MetricsDoor::Own(address)) => write!(f, "{address}"),
            Value::Metrics(MetricsDoor::Shared) => f.write_str("shared"),
            Value::Metrics(MetricsDoor::Off) => f.write_str("off"),
            Value::Level(level) => f.write_str(level.name()),
            Value::Names(names) => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("20GiB", 20 << 30),
            ("20 GiB", 20 << 30),
            ("20G", 20 << 30),
            ("1.5MiB", 3 << 19),
            ("500MB", 500_000_000),
            ("1kB", 1000),
            ("7B", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "+1",
            "1e9",
            "1.",
            ".5GiB",
            "20 apples",
            "20gib",
            "0x10",
            "1 2",
            "1.0000000001GiB",
            "18446744073709551616",
            "99999999999999TiB",
            "∞",
        ] {
            assert_eq!(read_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0", 0),
            ("never", 0),
            ("600", 600),
            ("600s", 600),
            ("10m", 600),
            ("1.5h", 5400),
            ("2d", 172_800),
        ] {
            assert_eq!(read_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1", "1y", "ten", "99999999999999999999", "36600d"] {
            assert_eq!(read_duration(text), None, "{text}");
        }
    }

    #[test]
    fn names_and_metrics() {
        let names = |text| Kind::Names.read(text);
        assert_eq!(names("a.example, b:1"), Some(Value::Names(vec!["a.example".into(), "b:1".into()])));
        for text in ["", "a,,b", "a b", "http://a/"] {
            assert_eq!(names(text), None, "{text}");
        }
        assert_eq!(read_metrics("off"), Some(MetricsDoor::Off));
        assert_eq!(read_metrics("elsewhere"), None);
    }

    #[test]
    fn lists_are_checked_one_by_one() {
        for (kind, text) in [
            (Kind::VariableNames, "*"),
            (Kind::VariableNames, "A=1"),
            (Kind::VariableNames, "A,,B"),
            (Kind::VariableNames, "MY*VAR"),
            (Kind::PathGlobs, "src/[a"),
            (Kind::Patterns, ""),
            (Kind::Paths, "/a::/b"),
            (Kind::Count, "-1"),
            (Kind::Progress, "sometimes"),
            (Kind::Sharing, "auto"),
        ] {
            assert_eq!(kind.read(text), None, "{text}");
        }
    }

    #[test]
    fn the_canonical_text_means_the_value() {
        for (kind, texts) in [
            (Kind::Path, &["/a b/c", "relative"][..]),
            (Kind::Size, &["0", "1", "1023", "1000", "1024", "20GiB", "1TB", "5GB", "18446744073709551615"]),
            (Kind::Duration, &["0", "1", "10m", "1d"]),
            (Kind::Bool, &["yes", "no"]),
            (Kind::Address, &["[::1]:1", "localhost:0"]),
            (Kind::Metrics, &["shared", "off", "127.0.0.1:9"]),
            (Kind::Level, &["off", "error", "warn", "info", "debug", "trace"]),
            (Kind::Names, &["a", "a,b"]),
            (Kind::Text, &["", "a b"]),
            (Kind::Count, &["0", "100"]),
            (Kind::Program, &["sccache", "/usr/bin/sccache"]),
            (Kind::Paths, &["/a", "/a:b"]),
            (Kind::PathGlobs, &["vendor/**", "/a/*.rs,b"]),
            (Kind::Patterns, &["my_*", "NAME=value,--cfg"]),
            (Kind::VariableNames, &["A", "A,MY_*"]),
            (Kind::Progress, &["auto", "always", "never"]),
            (Kind::Sharing, &["reflink", "hardlink", "copy"]),
        ] {
            for text in texts {
                let value = kind.read(text).unwrap();
                assert_eq!(kind.read(&value.to_string()).as_ref(), Some(&value), "{text}");
                assert_eq!(kind.read(value.to_variable().to_str().unwrap()), Some(value), "{text}");
            }
        }
    }
}
