//! What a sync did, and what it could not do.

use std::collections::BTreeMap;

use crate::remote::failure::TransferFailure;

/// What was copied between the store and one remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncTotal {
    /// The remote, without credentials.
    pub remote: String,
    /// Whether results were fetched, and not uploaded.
    pub is_pull: bool,
    /// The results that were copied, or would be.
    pub copied: u64,
    /// The results that the other side had.
    pub present: u64,
}

/// Why results were not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncFailure {
    /// The remote, without credentials.
    pub remote: String,
    /// The cause and the words of the remote.
    pub failure: TransferFailure,
    /// The number of results; zero if it is not known.
    pub results: u64,
}

/// The report of a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// One entry for each remote and direction.
    pub totals: Vec<SyncTotal>,
    /// One entry for each remote and cause; empty if everything is on the other side.
    pub failures: Vec<SyncFailure>,
}

/// Counts the results of one remote and direction.
#[derive(Debug)]
pub(super) struct Tally {
    total: SyncTotal,
    failures: BTreeMap<TransferFailure, u64>,
}

impl Tally {
    pub(super) fn new(remote: &str, is_pull: bool) -> Tally {
        let total = SyncTotal { remote: remote.to_owned(), is_pull, ..SyncTotal::default() };
        Tally { total, failures: BTreeMap::new() }
    }

    pub(super) fn copied(&mut self) {
        self.total.copied += 1;
    }

    pub(super) fn present(&mut self) {
        self.total.present += 1;
    }

    /// Counts results that were not copied. Zero means that their number is not known.
    pub(super) fn failed(&mut self, failure: TransferFailure, results: u64) {
        *self.failures.entry(failure).or_default() += results;
    }

    pub(super) fn done(&self) -> u64 {
        self.total.copied + self.total.present + self.failures.values().sum::<u64>()
    }

    pub(super) fn add_to(self, report: &mut SyncReport) {
        let Tally { total, failures } = self;
        let remote = total.remote.clone();
        let failures = failures.into_iter();
        report.failures.extend(failures.map(|(failure, results)| SyncFailure {
            remote: remote.clone(),
            failure,
            results,
        }));
        report.totals.push(total);
    }
}
