//! Answers that took trouble to find, with what they depend on.
//!
//! A fact holds as long as every file that it was made of bears the stamp that it bore, and
//! every file that was missing still is. That is how a hit learns from a handful of `stat`
//! calls what once took a process or half a gigabyte of hashing: where a proxy leads, what
//! a toolchain consists of, what a linker finds.
//!
//! It does not know what the answers mean.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use super::stamp::Stamp;

/// How many are kept. A machine has tens of toolchains and linkers, and a checkout has tens of
/// native libraries with their directories.
pub const FACTS_MAX: usize = 20_000;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    /// The answer, as whoever asked has encoded it.
    pub(super) value: Vec<u8>,
    /// What it was made of.
    pub(super) depends_on: Vec<(PathBuf, Option<Stamp>)>,
}

impl Fact {
    /// Whether nothing has changed.
    fn holds(&self) -> bool {
        self.depends_on.iter().all(|(path, stamp)| Stamp::of(path).is_ok_and(|now| now == *stamp))
    }
}

/// All facts, by question.
#[derive(Debug, Default)]
pub(super) struct Facts {
    facts: RwLock<HashMap<Vec<u8>, Arc<Fact>>>,
}

impl Facts {
    /// The answer, if it still holds.
    pub(super) fn get(&self, question: &[u8]) -> Option<Arc<Fact>> {
        let fact = self.facts.read().unwrap_or_else(PoisonError::into_inner).get(question).cloned()?;
        fact.holds().then_some(fact)
    }

    /// Remembers an answer.
    pub(super) fn put(&self, question: Vec<u8>, fact: Arc<Fact>) {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        if facts.len() >= FACTS_MAX && !facts.contains_key(&question) {
            // They are found again; which of them are still asked for is not recorded.
            facts.clear();
        }
        facts.insert(question, fact);
    }

    /// A copy of all of them, in order of the questions.
    pub(super) fn all(&self) -> Vec<(Vec<u8>, Arc<Fact>)> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = facts.iter().map(|(question, fact)| (question.clone(), fact.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
