//! Coalesces equal compiles: while one call compiles, equal calls wait for its result (NET-03).
//!
//! The first call that joins under a key is the leader. Later ones are followers; they hold no
//! thread and do not poll. The leader's guard reports an outcome on every path, also when it is
//! dropped, and the first follower that joins again then becomes the leader.
//!
//! Several leaders may run under one key, each with a description of what it compiles. For queries
//! that is needed because the key covers the arguments but not every source: calls whose arguments
//! are equal and whose modules differ must not wait for each other. A call follows the first leader
//! whose description it accepts.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How a leader's compile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderOutcome {
    /// The result is in the store.
    Stored,
    /// The compile ran and stored nothing. A follower need not wait for another leader, because
    /// that one would store nothing either.
    NotStored,
    /// The leader was dropped before its compile ended. A follower may lead in its place.
    Abandoned,
}

type OutcomeReceiver = watch::Receiver<Option<LeaderOutcome>>;

/// One compile that runs now.
#[derive(Clone, Debug)]
struct CoalescedCompile<T> {
    /// Increases with each compile that was begun.
    number: u64,
    /// Tells apart compiles with equal keys, as [`Coalescer::join_if`] describes.
    description: T,
    outcome: OutcomeReceiver,
}

#[derive(Debug)]
struct CompileTable<K, T> {
    /// No list in it is empty.
    by_key: HashMap<K, Vec<CoalescedCompile<T>>>,
    last_number: u64,
}

/// The compiles that run now, by key.
#[derive(Debug)]
pub(super) struct Coalescer<K, T = ()> {
    table: Arc<Mutex<CompileTable<K, T>>>,
}

/// The part that a call has in a coalesced compile.
#[derive(Debug)]
pub(super) enum Join<K: Eq + Hash, T = ()> {
    /// The call is the leader and compiles.
    Leader(Leader<K, T>),
    /// The call waits for a leader.
    Follower(Follower),
}

/// Held by the call that compiles. Dropping it reports [`LeaderOutcome::Abandoned`].
#[derive(Debug)]
pub(super) struct Leader<K: Eq + Hash, T = ()> {
    /// `None` once the outcome was reported.
    key: Option<K>,
    number: u64,
    table: Arc<Mutex<CompileTable<K, T>>>,
    outcome: watch::Sender<Option<LeaderOutcome>>,
}

/// Held by a call that waits for a leader.
#[derive(Debug)]
pub struct Follower(OutcomeReceiver);

impl<K, T> Default for Coalescer<K, T> {
    fn default() -> Self {
        Coalescer { table: Arc::new(Mutex::new(CompileTable { by_key: HashMap::new(), last_number: 0 })) }
    }
}

impl<K: Clone + Eq + Hash> Coalescer<K> {
    /// Follows the leader of this key, or becomes it if there is none.
    pub(super) fn join(&self, key: &K) -> Join<K> {
        self.join_if(key, (), |()| true)
    }

    /// Follows the leader of this key. Returns `None` if there is none.
    pub(super) fn follow(&self, key: &K) -> Option<Follower> {
        let table = lock(&self.table);
        table.by_key.get(key)?.first().map(|compile| Follower(compile.outcome.clone()))
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Coalescer<K, T> {
    /// Follows the first leader of this key whose description `is_same` accepts; becomes a leader
    /// with this description if there is none.
    ///
    /// The lock is not held while `is_same` runs, because it may read files. Leaders that join
    /// meanwhile are checked too: the loop ends only when, under the lock, no leader is unchecked.
    pub(super) fn join_if(&self, key: &K, description: T, mut is_same: impl FnMut(&T) -> bool) -> Join<K, T> {
        let mut last_checked = 0;
        loop {
            let unchecked: Vec<CoalescedCompile<T>> = {
                let mut table = lock(&self.table);
                let of_key = table.by_key.get(key).into_iter().flatten();
                let unchecked: Vec<_> =
                    of_key.filter(|compile| compile.number > last_checked).cloned().collect();
                if unchecked.is_empty() {
                    return Join::Leader(self.lead(&mut table, key, description));
                }
                unchecked
            };
            for compile in unchecked {
                if is_same(&compile.description) {
                    return Join::Follower(Follower(compile.outcome));
                }
                last_checked = compile.number;
            }
        }
    }

    fn lead(&self, table: &mut CompileTable<K, T>, key: &K, description: T) -> Leader<K, T> {
        let (sender, outcome) = watch::channel(None);
        table.last_number += 1;
        let number = table.last_number;
        let compile = CoalescedCompile { number, description, outcome };
        table.by_key.entry(key.clone()).or_default().push(compile);
        Leader { key: Some(key.clone()), number, table: Arc::clone(&self.table), outcome: sender }
    }
}

impl<K: Eq + Hash, T> Leader<K, T> {
    /// Reports how the compile ended, which wakes the followers.
    pub(super) fn finish(mut self, outcome: LeaderOutcome) {
        self.report(outcome);
    }

    /// Removes the compile from the table before it wakes the followers: a follower that joins
    /// again at once must not find this compile.
    fn report(&mut self, outcome: LeaderOutcome) {
        let Some(key) = self.key.take() else { return };
        {
            let mut table = lock(&self.table);
            if let Some(compiles) = table.by_key.get_mut(&key) {
                compiles.retain(|compile| compile.number != self.number);
                if compiles.is_empty() {
                    table.by_key.remove(&key);
                }
            }
        }
        self.outcome.send_replace(Some(outcome));
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        self.report(LeaderOutcome::Abandoned);
    }
}

/// Ignores poisoning: no thread panics between two changes that belong together.
fn lock<K, T>(table: &Mutex<CompileTable<K, T>>) -> MutexGuard<'_, CompileTable<K, T>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Follower {
    /// Waits until the leader's compile has ended, and returns how it did.
    pub async fn outcome(mut self) -> LeaderOutcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.unwrap_or(LeaderOutcome::Abandoned),
            Err(_) => LeaderOutcome::Abandoned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(coalescer: &Coalescer<u8>, key: u8) -> Leader<u8> {
        match coalescer.join(&key) {
            Join::Leader(leader) => leader,
            Join::Follower(_) => panic!("another call leads"),
        }
    }

    fn follow(coalescer: &Coalescer<u8>, key: u8) -> Follower {
        match coalescer.join(&key) {
            Join::Follower(follower) => follower,
            Join::Leader(_) => panic!("no call leads"),
        }
    }

    #[tokio::test]
    async fn net_03_one_call_leads_and_the_others_follow() {
        let coalescer = Coalescer::default();
        let first = lead(&coalescer, 1);
        let others = [follow(&coalescer, 1), follow(&coalescer, 1)];
        let _another_key = lead(&coalescer, 2);
        first.finish(LeaderOutcome::Stored);
        for other in others {
            assert_eq!(other.outcome().await, LeaderOutcome::Stored);
        }
        lead(&coalescer, 1).finish(LeaderOutcome::NotStored);
    }

    #[tokio::test]
    async fn net_03_a_leader_that_is_dropped_is_replaced() {
        let coalescer = Coalescer::default();
        let first = lead(&coalescer, 1);
        let (second, third) = (follow(&coalescer, 1), follow(&coalescer, 1));
        drop(first);
        assert_eq!(second.outcome().await, LeaderOutcome::Abandoned);
        let successor = lead(&coalescer, 1);
        assert_eq!(
            third.outcome().await,
            LeaderOutcome::Abandoned,
            "it joins again and follows the successor"
        );
        let third = follow(&coalescer, 1);
        successor.finish(LeaderOutcome::Stored);
        assert_eq!(third.outcome().await, LeaderOutcome::Stored);
    }

    #[tokio::test]
    async fn net_03_calls_that_differ_from_every_leader_lead_themselves() {
        let coalescer = Coalescer::<u8, &str>::default();
        let join =
            |description: &'static str| coalescer.join_if(&1, description, |leader| *leader == description);
        let (Join::Leader(one), Join::Leader(two)) = (join("one"), join("two")) else {
            panic!("a call waits for another description")
        };
        let (Join::Follower(of_one), Join::Follower(of_two)) = (join("one"), join("two")) else {
            panic!("both descriptions have a leader")
        };
        two.finish(LeaderOutcome::Stored);
        assert_eq!(of_two.outcome().await, LeaderOutcome::Stored);
        let Join::Follower(again) = join("one") else { panic!("the first one still leads") };
        drop(one);
        let abandoned = (LeaderOutcome::Abandoned, LeaderOutcome::Abandoned);
        assert_eq!((of_one.outcome().await, again.outcome().await), abandoned);
        assert!(matches!(join("one"), Join::Leader(_)));
    }

    #[test]
    fn net_03_a_leader_that_joins_while_others_are_checked_is_checked_too() {
        let coalescer = Coalescer::<u8, &str>::default();
        let _first = coalescer.join_if(&1, "first", |_| false);
        let mut second = None;
        let join = coalescer.join_if(&1, "third", |leader| {
            second.get_or_insert_with(|| coalescer.join_if(&1, "second", |_| false));
            *leader == "second"
        });
        assert!(matches!(join, Join::Follower(_)));
    }
}
