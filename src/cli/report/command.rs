//! `kache report`: reads the event log and prints it in the chosen format.

use std::time::SystemTime;

use super::{document, markdown, text};
use crate::cli::args::{ReportArgs, ReportFormat};
use crate::cli::config::load_here;
use crate::cli::exit_codes::OK;
use crate::cli::failure::{CommandResult, Failure};
use crate::cli::output;
use crate::config::Settings;
use crate::events::{self, History};

/// The data that every format prints.
pub(super) struct ReportData {
    pub(super) cache_dir: String,
    /// Calls before this moment are left out; `None` if no `--since` was given.
    pub(super) since: Option<SystemTime>,
    pub(super) now: SystemTime,
    pub(super) history: History,
}

pub(in crate::cli) fn run(args: &ReportArgs) -> CommandResult {
    let settings = Settings::new(&load_here()?)?;
    let now = SystemTime::now();
    let since = args.since.map(|time| now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH));
    let history = history(&settings, since)?;
    warn_of_unread(&history);
    let cache_dir = settings.address.cache_dir().to_string_lossy().into_owned();
    let data = ReportData { cache_dir, since, now, history };
    output::data(&match args.format {
        ReportFormat::Text => text::page(&data),
        ReportFormat::Json => document::page(&data),
        ReportFormat::Markdown => markdown::page(&data),
    })?;
    Ok(OK)
}

/// Reads the event log of the cache directory; with `since` only the calls from then on.
pub(in crate::cli) fn history(settings: &Settings, since: Option<SystemTime>) -> Result<History, Failure> {
    let cache_dir = settings.address.cache_dir();
    events::read(cache_dir, since).map_err(|error| {
        Failure::new(format!("failed to read the event log in `{}`: {error}", cache_dir.display()))
    })
}

/// Warns of parts of the event log that could not be read, so that the numbers lack them.
pub(in crate::cli) fn warn_of_unread(history: &History) {
    for unread in &history.unread {
        output::message(&format!(
            "kache: warning: part of the event log `{}` cannot be read: {}",
            unread.path.display(),
            unread.why
        ));
    }
}
