//! From arguments to a printed report.

use std::time::SystemTime;

use super::{document, markdown, text};
use crate::cli::args::{ReportArgs, ReportFormat};
use crate::cli::config::load_here;
use crate::cli::exit_codes::OK;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;
use crate::config::Settings;
use crate::events::{self, History};

/// What a report is about.
pub(super) struct Subject {
    pub(super) cache_dir: String,
    pub(super) since: Option<SystemTime>,
    pub(super) now: SystemTime,
    pub(super) history: History,
}

pub(in crate::cli) fn run(args: &ReportArgs) -> Outcome {
    let settings = Settings::new(&load_here()?)?;
    let now = SystemTime::now();
    let since = args.since.map(|time| now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH));
    let history = history(&settings, since)?;
    warn_of_unread(&history);
    let cache_dir = settings.address.cache_dir().to_string_lossy().into_owned();
    let subject = Subject { cache_dir, since, now, history };
    output::data(&match args.format {
        ReportFormat::Text => text::page(&subject),
        ReportFormat::Json => document::page(&subject),
        ReportFormat::Markdown => markdown::page(&subject),
    })?;
    Ok(OK)
}

/// Reads the log of these settings' cache.
pub(in crate::cli) fn history(settings: &Settings, since: Option<SystemTime>) -> Result<History, Failure> {
    let cache_dir = settings.address.cache_dir();
    events::read(cache_dir, since).map_err(|error| {
        Failure::new(format!("failed to read the event log in `{}`: {error}", cache_dir.display()))
    })
}

/// Says which parts of the log are missing from what is about to be printed.
pub(in crate::cli) fn warn_of_unread(history: &History) {
    for unread in &history.unread {
        output::talk(&format!(
            "kache: warning: `{}` is not wholly read: {}",
            unread.path.display(),
            unread.why
        ));
    }
}
