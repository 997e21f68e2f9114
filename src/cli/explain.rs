//! `kache explain`: an action, as it is stored.

use super::args::ExplainArgs;
use super::blobs::{Source, resolve};
use super::config::load_here;
use super::exit_codes::OK;
use super::failure::{Failure, Outcome};
use super::{output, report};
use crate::config::Settings;
use crate::explain::{Blobs, Explained, LoadError, load, page};

pub(super) fn run(args: &ExplainArgs) -> Outcome {
    let settings = Settings::new(&load_here()?)?;
    let history = report::history(&settings, None)?;
    let hash = resolve(&args.digest, &history.events)?;
    let source = Source::open(&settings)?;
    let explained = explained(&source, hash)?;
    let origins = source.origins(hash).map_err(Failure::new)?;
    output::data(&page(&explained, origins)).map(|()| OK)
}

/// An action, or why it cannot be shown.
pub(super) fn explained(blobs: &dyn Blobs, hash: kache_cas::Hash) -> Result<Explained, Failure> {
    load(blobs, hash).map_err(|error| {
        let is_missing = matches!(error, LoadError::Missing { .. });
        let failure = Failure::new(error);
        if is_missing {
            failure.hint("it may have been evicted; a query's digest names no action of its own")
        } else {
            failure
        }
    })
}
