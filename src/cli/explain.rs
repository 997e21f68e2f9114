//! `kache explain`: prints an action as it is stored.

use super::args::ExplainArgs;
use super::blobs::{BlobSource, resolve};
use super::config::load_here;
use super::exit_codes::OK;
use super::failure::{CommandResult, Failure};
use super::{output, report};
use crate::config::Settings;
use crate::explain::{Blobs, ExplainedAction, LoadError, load, page};

pub(super) fn run(args: &ExplainArgs) -> CommandResult {
    let settings = Settings::new(&load_here()?)?;
    let history = report::history(&settings, None)?;
    let hash = resolve(&args.digest, &history.events)?;
    let source = BlobSource::open(&settings)?;
    let explained = explained(&source, hash)?;
    let origins = source.origins(hash).map_err(Failure::new)?;
    output::data(&page(&explained, origins)).map(|()| OK)
}

/// Loads an action, with a hint for the user if it is not stored.
pub(super) fn explained(blobs: &dyn Blobs, hash: kache_cas::Hash) -> Result<ExplainedAction, Failure> {
    load(blobs, hash).map_err(|error| {
        let is_missing = matches!(error, LoadError::Missing { .. });
        let failure = Failure::new(error);
        if is_missing {
            failure.hint("it may have been evicted, or the digest may be that of a query")
        } else {
            failure
        }
    })
}
