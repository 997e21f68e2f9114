//! `kache stats`: hit rate, time saved, the store's size, and calls that bypassed the cache.
//!
//! Numbers about calls come from the event log. Numbers about the store come from the running
//! daemon. If no daemon runs, none is started and the database stays closed: the command then
//! adds up the sizes of the store's files (DMN-06).

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use kache_client::control::{RemoteStatus, StoreStatus, reply, request};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent};
use serde::Serialize;

use super::args::{StatsArgs, StatsFormat};
use super::config::load_here;
use super::exit_codes::OK;
use super::failure::CommandResult;
use super::{moment, output, report};
use crate::config::Settings;
use crate::events::{self, Event, ReasonCounts, Summary, by_frequency};

/// The most files that are measured, which takes some seconds on a cold disk.
const FILES_MEASURED_MAX: u64 = 1_000_000;

/// The directories of a store that count towards its size. A store always has the first one.
const CONTENT: &[&str] = &["blobs", "db", "tmp"];

/// Raised when a field of the JSON is removed or changes its meaning.
const SCHEMA_VERSION: u32 = 1;

pub(super) fn run(args: &StatsArgs) -> CommandResult {
    let settings = Settings::new(&load_here()?)?;
    let since = args.since.map(|time| SystemTime::now().checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH));
    let history = report::history(&settings, since)?;
    report::warn_of_unread(&history);
    let summary = Summary::of(&history.events);
    let store = StoreSizes::read(&settings);
    let bypasses = bypasses(&history.events);
    output::data(&match args.format {
        StatsFormat::Text => text(&settings, since, &summary, &store, &bypasses),
        StatsFormat::Json => json(&settings, since, &summary, &store, &bypasses),
    })?;
    Ok(OK)
}

/// The store's sizes, as far as they can be read.
enum StoreSizes {
    /// The running daemon's numbers, and its remotes.
    Daemon(StoreStatus, Vec<RemoteStatus>),
    /// No daemon runs; the sum of the sizes of the store's files. If there are more than
    /// `FILES_MEASURED_MAX` files, it is not the whole sum.
    Files { physical_bytes: u64, is_whole: bool },
    /// There is no store yet.
    Missing,
    /// Neither the daemon nor the files could be read, with the reason.
    Unknown(String),
}

impl StoreSizes {
    fn read(settings: &Settings) -> StoreSizes {
        match ask_daemon(settings) {
            Ok(Some((store, remotes))) => StoreSizes::Daemon(store, remotes),
            Ok(None) => measure(settings.address.cache_dir()),
            Err(why) => StoreSizes::Unknown(why),
        }
    }
}

/// Asks the running daemon for the store's numbers; `None` if no daemon runs.
fn ask_daemon(settings: &Settings) -> Result<Option<(StoreStatus, Vec<RemoteStatus>)>, String> {
    let soon = || Instant::now() + HELLO_WAIT_MAX;
    let mut connection = match DaemonConnection::open(&settings.address, Intent::Look, soon()) {
        Ok(connection) => connection,
        Err(ConnectError::NotRunning) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    match connection.request(request::Kind::Status(request::Status {}), soon()) {
        Ok(reply::Kind::Status(status)) if status.store_state == "open" => {
            Ok(Some((status.store.unwrap_or_default(), status.remotes)))
        }
        Ok(reply::Kind::Status(status)) => {
            let troubles = status.store.unwrap_or_default().troubles.join("; ");
            let separator = if troubles.is_empty() { "" } else { ": " };
            Err(format!("the daemon's store is {}{separator}{troubles}", status.store_state))
        }
        Ok(_) => Err("the daemon sent an unexpected response".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn measure(cache_dir: &Path) -> StoreSizes {
    if !cache_dir.join(CONTENT[0]).exists() {
        return StoreSizes::Missing;
    }
    let mut usage = DiskUsage::default();
    for part in CONTENT {
        if let Err(error) = usage.add(cache_dir.join(part)) {
            return StoreSizes::Unknown(error.to_string());
        }
    }
    StoreSizes::Files { physical_bytes: usage.bytes, is_whole: usage.files <= FILES_MEASURED_MAX }
}

/// The space that files occupy on the volume. A file with several names counts once.
#[derive(Default)]
struct DiskUsage {
    files: u64,
    bytes: u64,
    /// Inodes with more than one name that were counted.
    linked: HashSet<u64>,
}

impl DiskUsage {
    fn add(&mut self, top: PathBuf) -> io::Result<()> {
        let mut waiting = vec![top];
        while let Some(directory) = waiting.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                // Files come and go while a daemon that just started writes the store.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let Ok(found) = entry.metadata() else { continue };
                if found.is_dir() {
                    waiting.push(entry.path());
                } else if found.nlink() == 1 || self.linked.insert(found.ino()) {
                    // `st_blocks` counts 512 bytes, whatever the volume's blocks are.
                    self.bytes += found.blocks() * 512;
                }
                self.files += 1;
                if self.files > FILES_MEASURED_MAX {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The calls that bypassed the cache for one reason.
#[derive(Serialize)]
struct BypassCount<'a> {
    reason: &'a str,
    count: u64,
    /// The detail of the last of these calls.
    example: Option<&'a str>,
    /// The crate or program of the last of these calls.
    example_crate: &'a str,
}

fn bypasses(events: &[Event]) -> Vec<BypassCount<'_>> {
    let mut counts = ReasonCounts::new();
    let mut last: BTreeMap<&str, &Event> = BTreeMap::new();
    // Events are in order, so what stays in `last` is the latest call of each reason: the example
    // that the user most likely remembers.
    for event in events.iter().filter(|event| event.outcome == events::Outcome::Passthrough) {
        *counts.entry(event.reason.clone()).or_default() += 1;
        last.insert(event.reason_name(), event);
    }
    let bypass = |(reason, count): (&str, u64)| {
        let event = last[reason];
        let example = Some(&*event.detail).filter(|detail| !detail.is_empty());
        BypassCount { reason: event.reason_name(), count, example, example_crate: &event.name }
    };
    by_frequency(&counts).into_iter().map(bypass).collect()
}

fn text(
    settings: &Settings,
    since: Option<SystemTime>,
    summary: &Summary,
    store: &StoreSizes,
    bypasses: &[BypassCount<'_>],
) -> String {
    let mut text = match since {
        Some(since) => format!("kache since {}\n", moment::for_people(since)),
        None => "kache, all calls in the event log\n".to_owned(),
    };
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<10} {value}\n"));
    if summary.rated() == 0 {
        line("hit rate", "- (no call could be a hit)");
    } else {
        let counts = format!("({} of {})", summary.hits(), summary.rated());
        line("hit rate", &format!("{} of crates {counts}", report::percent(summary.hit_rate_pct())));
        line("", &format!("{} of compile time", report::percent(summary.hit_rate_time_pct())));
        let spent = report::seconds(summary.compiled);
        line("saved", &format!("{} of compile time; {spent} were spent", report::seconds(summary.saved)));
    }
    line("store", &settings.address.cache_dir().display().to_string());
    for (label, value) in store_lines(store) {
        line(label, &value);
    }
    line("bypassed", &output::counted(summary.count_of(events::Outcome::Passthrough), "call"));
    for bypass in bypasses {
        let reason = if bypass.reason.is_empty() { "-" } else { bypass.reason };
        let example = bypass.example.map(|example| format!(", for example: {example}")).unwrap_or_default();
        line("", &report::shown(&format!("{:>6}  {reason}{example}", bypass.count)));
    }
    for why in report::remote_troubles(summary) {
        line("remote", &why);
    }
    text
}

/// Says why a remote is not used at present, and what it refuses.
fn remote_troubles(remote: &RemoteStatus) -> Vec<String> {
    let RemoteStatus { location, trouble, refusals, .. } = remote;
    let trouble =
        (!trouble.is_empty()).then(|| format!("{location} is not used until it answers again: {trouble}"));
    trouble.into_iter().chain(refusals.iter().map(|words| format!("{location} refuses {words}"))).collect()
}

fn store_lines(store: &StoreSizes) -> Vec<(&'static str, String)> {
    match store {
        StoreSizes::Daemon(status, remotes) => {
            let limit = output::size(status.limit_bytes);
            let logical = output::size(status.logical_bytes);
            let results = format!("about {} action results", status.action_results);
            let mut lines = vec![
                ("physical", format!("{} of {limit}", output::size(status.physical_bytes))),
                ("logical", format!("{logical} in {} blobs, {results}", status.blobs)),
            ];
            lines.extend(status.troubles.iter().map(|problem| ("problem", problem.clone())));
            lines.extend(remotes.iter().flat_map(remote_troubles).map(|trouble| ("remote", trouble)));
            lines
        }
        StoreSizes::Files { physical_bytes, is_whole } => {
            let at_least = if *is_whole { "" } else { "more than " };
            let size = output::size(*physical_bytes);
            vec![
                ("physical", format!("{at_least}{size} (sum of the files; no daemon is running)")),
                ("logical", "unknown while no daemon is running; `kache daemon start`".to_owned()),
            ]
        }
        StoreSizes::Missing => vec![("physical", "0 B (there is no store yet)".to_owned())],
        StoreSizes::Unknown(why) => vec![("physical", format!("unknown: {why}"))],
    }
}

/// The JSON document. Fields are only ever added while `schema_version` is the same.
#[derive(Serialize)]
struct StatsDocument<'a> {
    schema_version: u32,
    since: Option<String>,
    cache_dir: String,
    summary: report::SummaryEntry<'a>,
    bypasses: &'a [BypassCount<'a>],
    store: StoreEntry<'a>,
    remotes: Vec<RemoteEntry<'a>>,
}

/// A remote that the running daemon has used.
#[derive(Serialize)]
struct RemoteEntry<'a> {
    location: &'a str,
    /// Why the remote is not used at present.
    trouble: Option<&'a str>,
    /// What the remote refuses at present.
    refusals: &'a [String],
}

impl<'a> RemoteEntry<'a> {
    fn of(remote: &'a RemoteStatus) -> Self {
        let RemoteStatus { location, trouble, refusals, .. } = remote;
        RemoteEntry { location, trouble: Some(&**trouble).filter(|why| !why.is_empty()), refusals }
    }
}

#[derive(Serialize)]
struct StoreEntry<'a> {
    /// Where the numbers come from: `daemon`, `files`, `none` or `unknown`.
    source: &'static str,
    physical_bytes: Option<u64>,
    logical_bytes: Option<u64>,
    limit_bytes: Option<u64>,
    blobs: Option<u64>,
    action_results: Option<u64>,
    troubles: Vec<&'a str>,
}

impl<'a> StoreEntry<'a> {
    fn empty(source: &'static str) -> Self {
        StoreEntry {
            source,
            physical_bytes: None,
            logical_bytes: None,
            limit_bytes: None,
            blobs: None,
            action_results: None,
            troubles: Vec::new(),
        }
    }

    fn of(store: &'a StoreSizes) -> Self {
        match store {
            StoreSizes::Daemon(status, _) => StoreEntry {
                source: "daemon",
                physical_bytes: Some(status.physical_bytes),
                logical_bytes: Some(status.logical_bytes),
                limit_bytes: Some(status.limit_bytes),
                blobs: Some(status.blobs),
                action_results: Some(status.action_results),
                troubles: status.troubles.iter().map(|trouble| &**trouble).collect(),
            },
            StoreSizes::Files { physical_bytes, .. } => {
                StoreEntry { physical_bytes: Some(*physical_bytes), ..StoreEntry::empty("files") }
            }
            StoreSizes::Missing => StoreEntry { physical_bytes: Some(0), ..StoreEntry::empty("none") },
            StoreSizes::Unknown(why) => StoreEntry { troubles: vec![why], ..StoreEntry::empty("unknown") },
        }
    }
}

fn json(
    settings: &Settings,
    since: Option<SystemTime>,
    summary: &Summary,
    store: &StoreSizes,
    bypasses: &[BypassCount<'_>],
) -> String {
    let document = StatsDocument {
        schema_version: SCHEMA_VERSION,
        since: since.map(moment::rfc3339),
        cache_dir: settings.address.cache_dir().to_string_lossy().into_owned(),
        summary: report::summary_entry(summary),
        bypasses,
        store: StoreEntry::of(store),
        remotes: match store {
            StoreSizes::Daemon(_, remotes) => remotes.iter().map(RemoteEntry::of).collect(),
            _ => Vec::new(),
        },
    };
    serde_json::to_string_pretty(&document).expect("every key is a text") + "\n"
}
