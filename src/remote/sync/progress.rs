//! The parts of a sync that both directions use.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use kache_cas::Store;
use tokio::task::JoinSet;

use super::report::Tally;
use crate::remote::failure::{FailureCause, TransferFailure};

/// The number of results that are copied at once.
const AT_ONCE_MAX: usize = 16;

/// The store, with a guard that keeps it open.
pub type HeldStore = (Arc<Store>, Box<dyn Any + Send>);

/// How far a sync has come with one remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The remote, without credentials.
    pub remote: String,
    /// Whether results are fetched, and not uploaded.
    pub is_pull: bool,
    /// The results that were looked at.
    pub done: u64,
    /// All results.
    pub total: u64,
}

/// What a sync needs of its caller.
pub struct SyncContext<'a> {
    /// Returns the store, held open for one step; `None` when it is being closed. Then the sync ends.
    pub store: &'a (dyn Fn() -> Option<HeldStore> + Send + Sync),
    /// Is told how far the sync has come.
    pub report: &'a (dyn Fn(Progress) + Send + Sync),
    /// Whether the results are only counted.
    pub is_dry_run: bool,
}

/// How one result was copied.
#[derive(Debug)]
pub(super) enum Copied {
    Now,
    WasThere,
    Failed(TransferFailure),
}

impl SyncContext<'_> {
    pub(super) fn store(&self) -> Result<HeldStore, TransferFailure> {
        (self.store)().ok_or_else(closing)
    }

    pub(super) fn tell(&self, remote: &str, is_pull: bool, tally: &Tally, total: u64) {
        let (remote, done) = (remote.to_owned(), tally.done());
        (self.report)(Progress { remote, is_pull, done, total });
    }

    /// Copies all items, some of them at once, and counts how it went. A remote that does not answer is not
    /// asked for the rest.
    pub(super) async fn copy_all<T, F>(
        &self,
        (remote, is_pull): (&str, bool),
        tally: &mut Tally,
        items: Vec<T>,
        copy: impl Fn(T, HeldStore) -> F,
    ) where
        F: Future<Output = Copied> + Send + 'static,
    {
        let total = items.len() as u64;
        let mut items = VecDeque::from(items);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE_MAX && !items.is_empty() {
                match self.store() {
                    Ok(store) => items.pop_front().map(|item| under_way.spawn(copy(item, store))),
                    Err(failure) => {
                        tally.failed(failure, items.len() as u64);
                        items.clear();
                        None
                    }
                };
            }
            let Some(done) = under_way.join_next().await else { return };
            match done.unwrap_or_else(|_| Copied::Failed(closing())) {
                Copied::Now => tally.copied(),
                Copied::WasThere => tally.present(),
                Copied::Failed(failure) => {
                    if failure.cause == FailureCause::Unreachable {
                        tally.failed(failure.clone(), items.len() as u64);
                        items.clear();
                    }
                    tally.failed(failure, 1);
                }
            }
            self.tell(remote, is_pull, tally, total);
        }
    }
}

fn closing() -> TransferFailure {
    TransferFailure::new(FailureCause::Other, "the store is being closed")
}
