//! The values of keys: parsing them from text and writing them as text.
//!
//! Pure. Invariant: parsing the text of a value gives the same value. Settings are handed to a
//! daemon as such texts.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kache_serve::{ListenAddress, MetricsAddress};

use super::glob::{PathGlob, WordGlob};

/// The kind of a key's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A path.
    Path,
    /// A number of bytes, with or without a unit.
    Size,
    /// A duration in seconds, or with a unit.
    Duration,
    /// `true` or `false`; as a text also `1`, `yes` or `on`, and `0`, `no` or `off`.
    Bool,
    /// A host and a port.
    Address,
    /// `shared`, `off`, or a host and a port.
    Metrics,
    /// A level of log messages, such as `info`.
    Level,
    /// A list of host names.
    Names,
    /// Text without any restriction.
    Text,
    /// A whole number.
    Count,
    /// A program, by its name or its path.
    Program,
    /// A list of paths; in a variable, colons separate them.
    Paths,
    /// A list of globs for paths.
    PathGlobs,
    /// A list of globs for words.
    Patterns,
    /// A list of variable names; a name may end with `*`.
    VariableNames,
    /// Whether kache writes a line for each crate.
    Progress,
    /// How a file of a checkout and the store may share bytes.
    Sharing,
}

/// How a file of a checkout and the store may share bytes at most. Each variant also allows the
/// ones above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileSharing {
    /// Not at all: every file is a full copy.
    Copy,
    /// By reflinks, on filesystems that have them: the files share blocks until one is changed.
    Reflink,
    /// By hard links, on filesystems without reflinks.
    #[default]
    Hardlink,
}

impl FileSharing {
    const ALL: [FileSharing; 3] = [FileSharing::Reflink, FileSharing::Hardlink, FileSharing::Copy];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            FileSharing::Copy => "copy",
            FileSharing::Reflink => "reflink",
            FileSharing::Hardlink => "hardlink",
        }
    }
}

/// Whether kache writes a line for each crate to cargo's standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// If `CI` is set and cargo's standard error is not a terminal: then it is a log.
    #[default]
    Auto,
    /// Also if cargo's standard error is a terminal.
    Always,
    /// For no crate.
    Never,
}

impl ProgressMode {
    const ALL: [ProgressMode; 3] = [ProgressMode::Auto, ProgressMode::Always, ProgressMode::Never];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            ProgressMode::Auto => "auto",
            ProgressMode::Always => "always",
            ProgressMode::Never => "never",
        }
    }
}

/// The least severe messages that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The log stays empty.
    Off,
    /// Only failures are logged.
    Error,
    /// Unexpected events that kache copes with.
    Warn,
    /// Normal events, such as a start of the daemon.
    Info,
    /// Details that explain the normal events.
    Debug,
    /// All messages are logged.
    Trace,
}

impl Level {
    const ALL: [Level; 6] = [Level::Off, Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// The name in the configuration.
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

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A path; in a loaded configuration it is absolute.
    Path(PathBuf),
    /// A size in bytes.
    Size(u64),
    /// A duration in whole seconds; zero stands for `never`.
    Duration(Duration),
    /// `true` or `false`.
    Bool(bool),
    /// A host and a port.
    Address(ListenAddress),
    /// Where metrics are served, if anywhere.
    Metrics(MetricsAddress),
    /// A level of log messages.
    Level(Level),
    /// A list of names or globs.
    Names(Vec<String>),
    /// Text without any restriction.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A program: a bare name or a path; in a loaded configuration a path is absolute.
    Program(PathBuf),
    /// Paths; in a loaded configuration they are absolute.
    Paths(Vec<PathBuf>),
    /// Whether kache writes a line for each crate.
    Progress(ProgressMode),
    /// How a file of a checkout and the store may share bytes.
    Sharing(FileSharing),
}

impl ValueKind {
    /// Describes the valid values, for the hint of an error.
    pub fn expected(self) -> &'static str {
        match self {
            ValueKind::Path => "a path in quotes, such as \"/var/cache/kache\" or \"~/cache\"",
            ValueKind::Size => "a number of bytes or a size with its unit, such as \"20GiB\" or \"500MB\"",
            ValueKind::Duration => {
                "a number of seconds or a time with its unit, such as \"600s\", \"10m\" or \"2h\""
            }
            ValueKind::Bool => "true or false",
            ValueKind::Address => "a host and a port, such as \"127.0.0.1:9092\" or \"[::1]:9092\"",
            ValueKind::Metrics => "\"shared\", \"off\", or an address such as \"127.0.0.1:9093\"",
            ValueKind::Level => "one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            ValueKind::Names => "a list of names, such as [\"cache.example\"]",
            ValueKind::Text => "a text in quotes",
            ValueKind::Count => "a number, such as 100",
            ValueKind::Program => "a program in quotes, such as \"sccache\" or \"/usr/bin/sccache\"",
            ValueKind::Paths => "a list of paths, such as [\"/srv/sources\", \"..\"]",
            ValueKind::PathGlobs => "a list of globs for paths, such as [\"vendor/**\", \"/opt/**/*.rs\"]",
            ValueKind::Patterns => "a list of words, in which `*` stands for anything, such as [\"my_*\"]",
            ValueKind::VariableNames => "a list of names of variables, such as [\"MY_FLAG\", \"MY_APP_*\"]",
            ValueKind::Progress => "one of \"auto\", \"always\", \"never\"",
            ValueKind::Sharing => "one of \"reflink\", \"hardlink\", \"copy\"",
        }
    }

    /// Parses a text; `None` if it is not a value of this kind.
    pub fn read(self, text: &str) -> Option<Value> {
        match self {
            ValueKind::Path => is_path(text).then(|| Value::Path(text.into())),
            ValueKind::Size => read_size(text).map(Value::Size),
            ValueKind::Duration => read_duration(text).map(Value::Duration),
            ValueKind::Bool => read_bool(text).map(Value::Bool),
            ValueKind::Address => text.parse().ok().map(Value::Address),
            ValueKind::Metrics => read_metrics(text).map(Value::Metrics),
            ValueKind::Level => Level::ALL.into_iter().find(|level| level.name() == text).map(Value::Level),
            ValueKind::Text => Some(Value::Text(text.to_owned())),
            ValueKind::Count => text.parse().ok().map(Value::Count),
            ValueKind::Program => is_path(text).then(|| Value::Program(text.into())),
            ValueKind::Paths => self.read_list(text.split(':')),
            ValueKind::Names | ValueKind::PathGlobs | ValueKind::Patterns | ValueKind::VariableNames => {
                self.read_list(text.split(','))
            }
            ValueKind::Progress => {
                ProgressMode::ALL.into_iter().find(|progress| progress.name() == text).map(Value::Progress)
            }
            ValueKind::Sharing => {
                FileSharing::ALL.into_iter().find(|sharing| sharing.name() == text).map(Value::Sharing)
            }
        }
    }

    /// Parses the items of a list; `None` if one of them is invalid.
    pub fn read_list<'a>(self, items: impl IntoIterator<Item = &'a str>) -> Option<Value> {
        let is_valid = |item: &str| match self {
            ValueKind::Names => is_name(item),
            ValueKind::Paths => is_path(item),
            ValueKind::PathGlobs => PathGlob::new(item).is_some(),
            ValueKind::Patterns => WordGlob::new(item).is_some(),
            ValueKind::VariableNames => is_variable_name(item),
            _ => false,
        };
        let items: Vec<&str> = items.into_iter().map(str::trim).collect();
        if !self.takes_lists() || !items.iter().all(|item| is_valid(item)) {
            return None;
        }
        Some(match self {
            ValueKind::Paths => Value::Paths(items.into_iter().map(PathBuf::from).collect()),
            _ => Value::Names(items.into_iter().map(str::to_owned).collect()),
        })
    }

    /// Whether a file may have a number without quotes.
    pub fn takes_numbers(self) -> bool {
        matches!(self, ValueKind::Size | ValueKind::Duration | ValueKind::Count)
    }

    /// Whether the values are lists, which a file writes with brackets.
    pub fn takes_lists(self) -> bool {
        matches!(
            self,
            ValueKind::Names
                | ValueKind::Paths
                | ValueKind::PathGlobs
                | ValueKind::Patterns
                | ValueKind::VariableNames
        )
    }

    /// Whether the value in a variable need not be UTF-8.
    pub fn takes_bytes(self) -> bool {
        matches!(self, ValueKind::Path | ValueKind::Program)
    }
}

const BINARY_UNITS: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

const DECIMAL_UNITS: &[(&str, u64)] =
    &[("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];

const SHORT_UNITS: &[(&str, u64)] = &[
    ("kB", 1_000),
    // A letter alone is binary, as in `du` and most build tools.
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

const DURATION_UNITS: &[(&str, u64)] =
    &[("days", 86_400), ("day", 86_400), ("d", 86_400), ("h", 3_600), ("min", 60), ("m", 60), ("s", 1)];

/// The longest duration: a hundred years, so that no sum of durations overflows.
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

/// Parses a number with or without a unit: `20GiB`, `1.5 GiB`, `600`.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    // A unit may end with another one (`GiB` with `B`), so longer units come first in the tables.
    let text = text.trim();
    for (unit, factor) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return scaled(number.trim_end(), *factor);
        }
    }
    scaled(text, 1)
}

/// Multiplies a decimal number by a factor and rounds down. It does not use floats, which cannot
/// hold every number of bytes exactly.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    /// The most digits after the point, so that the product fits into 128 bits.
    const FRACTION_DIGITS_MAX: usize = 9;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    // `1.25` times a factor is `125` times the factor divided by 100, all in 128 bits.
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

fn read_metrics(text: &str) -> Option<MetricsAddress> {
    match text {
        "shared" => Some(MetricsAddress::Shared),
        "off" => Some(MetricsAddress::Off),
        _ => text.parse().ok().map(MetricsAddress::Own),
    }
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
}

/// Whether this is the name of a variable, or a prefix of such names followed by `*`. A `*` alone
/// is not allowed: the whole environment would enter the key, and there would be no more hits.
fn is_variable_name(name: &str) -> bool {
    let name = name.strip_suffix('*').unwrap_or(name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '=' | '*' | ','))
}

/// Writes a number with the largest unit that leaves a whole number.
fn write_unit(number: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor));
    fits.map_or_else(|| number.to_string(), |(unit, factor)| format!("{}{unit}", number / factor))
}

/// Writes a size in binary or decimal units, whichever is shorter: "20GiB", "500MB".
fn write_size(bytes: u64) -> String {
    let (binary, decimal) = (write_unit(bytes, BINARY_UNITS), write_unit(bytes, DECIMAL_UNITS));
    if decimal.len() < binary.len() { decimal } else { binary }
}

impl Value {
    /// Adds the value of another layer to the value of an additive key: lists are joined without
    /// duplicates, and texts are joined with a line break. Other values stay as they are.
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

    /// Writes the value for an environment variable. Paths need not be UTF-8.
    pub fn to_variable(&self) -> OsString {
        match self {
            Value::Path(path) | Value::Program(path) => path.clone().into_os_string(),
            other => other.to_string().into(),
        }
    }

    /// Writes the value as TOML.
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
            Value::Address(address) | Value::Metrics(MetricsAddress::Own(address)) => write!(f, "{address}"),
            Value::Metrics(MetricsAddress::Shared) => f.write_str("shared"),
            Value::Metrics(MetricsAddress::Off) => f.write_str("off"),
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
        let names = |text| ValueKind::Names.read(text);
        assert_eq!(names("a.example, b:1"), Some(Value::Names(vec!["a.example".into(), "b:1".into()])));
        for text in ["", "a,,b", "a b", "http://a/"] {
            assert_eq!(names(text), None, "{text}");
        }
        assert_eq!(read_metrics("off"), Some(MetricsAddress::Off));
        assert_eq!(read_metrics("elsewhere"), None);
    }

    #[test]
    fn an_invalid_item_makes_the_list_invalid() {
        for (kind, text) in [
            (ValueKind::VariableNames, "*"),
            (ValueKind::VariableNames, "A=1"),
            (ValueKind::VariableNames, "A,,B"),
            (ValueKind::VariableNames, "MY*VAR"),
            (ValueKind::PathGlobs, "src/[a"),
            (ValueKind::Patterns, ""),
            (ValueKind::Paths, "/a::/b"),
            (ValueKind::Count, "-1"),
            (ValueKind::Progress, "sometimes"),
            (ValueKind::Sharing, "auto"),
        ] {
            assert_eq!(kind.read(text), None, "{text}");
        }
    }

    #[test]
    fn parsing_the_text_of_a_value_gives_the_value() {
        for (kind, texts) in [
            (ValueKind::Path, &["/a b/c", "relative"][..]),
            (
                ValueKind::Size,
                &["0", "1", "1023", "1000", "1024", "20GiB", "1TB", "5GB", "18446744073709551615"],
            ),
            (ValueKind::Duration, &["0", "1", "10m", "1d"]),
            (ValueKind::Bool, &["yes", "no"]),
            (ValueKind::Address, &["[::1]:1", "localhost:0"]),
            (ValueKind::Metrics, &["shared", "off", "127.0.0.1:9"]),
            (ValueKind::Level, &["off", "error", "warn", "info", "debug", "trace"]),
            (ValueKind::Names, &["a", "a,b"]),
            (ValueKind::Text, &["", "a b"]),
            (ValueKind::Count, &["0", "100"]),
            (ValueKind::Program, &["sccache", "/usr/bin/sccache"]),
            (ValueKind::Paths, &["/a", "/a:b"]),
            (ValueKind::PathGlobs, &["vendor/**", "/a/*.rs,b"]),
            (ValueKind::Patterns, &["my_*", "NAME=value,--cfg"]),
            (ValueKind::VariableNames, &["A", "A,MY_*"]),
            (ValueKind::Progress, &["auto", "always", "never"]),
            (ValueKind::Sharing, &["reflink", "hardlink", "copy"]),
        ] {
            for text in texts {
                let value = kind.read(text).unwrap();
                assert_eq!(kind.read(&value.to_string()).as_ref(), Some(&value), "{text}");
                assert_eq!(kind.read(value.to_variable().to_str().unwrap()), Some(value), "{text}");
            }
        }
    }
}
