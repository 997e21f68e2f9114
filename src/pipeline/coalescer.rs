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
//!
//! A compile may take any time, but what comes before and after it is kache's own work, and no follower
//! waits long for that (DMN-03): a leader that decides or stores for too long is no leader any more.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// How long a follower waits for a leader that has not begun to compile. A leader takes some
/// milliseconds, and its own client waits no longer than this.
const DECIDING_MAX: Duration = Duration::from_secs(3);

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
    /// The leader took too long before or after its compile. A follower may lead in its place.
    Late,
}

/// The work that a leader does now, which decides how long followers wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaderStage {
    /// The compiler was not started yet.
    Deciding,
    /// The leader waits for its compiler to end.
    Compiling,
    /// The compiler has ended, and followers wait this long for its result to be stored.
    Storing(Duration),
    /// The outcome is certain.
    Ended(LeaderOutcome),
}

type StageReceiver = watch::Receiver<LeaderStage>;

/// One compile that runs now.
#[derive(Clone, Debug)]
struct CoalescedCompile<T> {
    /// Increases with each compile that was begun.
    number: u64,
    /// Tells apart compiles with equal keys, as [`Coalescer::join_if`] describes.
    description: T,
    stage: StageReceiver,
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
    stage: watch::Sender<LeaderStage>,
}

/// Held by a call that waits for a leader.
pub struct Follower {
    stage: StageReceiver,
    /// Removes the leader from the table, if a call that waited in vain leads in its place.
    remove_leader: Option<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Follower").field(&*self.stage.borrow()).finish()
    }
}

impl<K, T> Default for Coalescer<K, T> {
    fn default() -> Self {
        Coalescer { table: Arc::new(Mutex::new(CompileTable { by_key: HashMap::new(), last_number: 0 })) }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Coalescer<K> {
    /// Follows the leader of this key, or becomes it if there is none.
    pub(super) fn join(&self, key: &K) -> Join<K> {
        self.join_if(key, (), |()| true)
    }

    /// Follows the leader of this key, which stays the leader even if it is late. Returns `None` if
    /// there is none.
    pub(super) fn follow(&self, key: &K) -> Option<Follower> {
        let table = self.table.lock();
        let compile = table.by_key.get(key)?.first()?;
        Some(Follower { stage: compile.stage.clone(), remove_leader: None })
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Clone + Send + 'static> Coalescer<K, T> {
    /// Follows the first leader of this key whose description `is_same` accepts; becomes a leader
    /// with this description if there is none.
    ///
    /// The lock is not held while `is_same` runs, because it may read files. Leaders that join
    /// meanwhile are checked too: the loop ends only when, under the lock, no leader is unchecked.
    pub(super) fn join_if(&self, key: &K, description: T, mut is_same: impl FnMut(&T) -> bool) -> Join<K, T> {
        let mut last_checked = 0;
        loop {
            let unchecked: Vec<CoalescedCompile<T>> = {
                let mut table = self.table.lock();
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
                    let (table, key) = (Arc::clone(&self.table), key.clone());
                    let remove_leader = move || remove(&table, &key, compile.number);
                    let remove_leader = Some(Box::new(remove_leader) as Box<dyn FnOnce() + Send>);
                    return Join::Follower(Follower { stage: compile.stage, remove_leader });
                }
                last_checked = compile.number;
            }
        }
    }

    fn lead(&self, table: &mut CompileTable<K, T>, key: &K, description: T) -> Leader<K, T> {
        let (sender, stage) = watch::channel(LeaderStage::Deciding);
        table.last_number += 1;
        let number = table.last_number;
        let compile = CoalescedCompile { number, description, stage };
        table.by_key.entry(key.clone()).or_default().push(compile);
        Leader { key: Some(key.clone()), number, table: Arc::clone(&self.table), stage: sender }
    }
}

impl<K: Eq + Hash, T> Leader<K, T> {
    /// Notes that the compiler is started, or that remotes are asked, which have time limits of their own. From
    /// now on followers wait without a limit.
    pub(super) fn begin_compiling(&self) {
        self.stage.send_replace(LeaderStage::Compiling);
    }

    /// Notes that the compiler has ended. Followers wait this long for its result to be stored.
    pub(super) fn begin_storing(&self, followers_wait: Duration) {
        self.stage.send_replace(LeaderStage::Storing(followers_wait));
    }

    /// Reports how the compile ended, which wakes the followers.
    pub(super) fn finish(mut self, outcome: LeaderOutcome) {
        self.report(outcome);
    }

    /// Removes the compile from the table before it wakes the followers: a follower that joins
    /// again at once must not find this compile.
    fn report(&mut self, outcome: LeaderOutcome) {
        let Some(key) = self.key.take() else { return };
        remove(&self.table, &key, self.number);
        self.stage.send_replace(LeaderStage::Ended(outcome));
    }
}

/// Removes a compile from the table, if it is there.
fn remove<K: Eq + Hash, T>(table: &Mutex<CompileTable<K, T>>, key: &K, number: u64) {
    let mut table = table.lock();
    if let Some(compiles) = table.by_key.get_mut(key) {
        compiles.retain(|compile| compile.number != number);
        if compiles.is_empty() {
            table.by_key.remove(key);
        }
    }
}

impl<K: Eq + Hash, T> Drop for Leader<K, T> {
    fn drop(&mut self) {
        self.report(LeaderOutcome::Abandoned);
    }
}

impl Follower {
    /// Waits until the leader's compile has ended, and returns how it did, or until the leader is
    /// late.
    pub async fn outcome(self) -> LeaderOutcome {
        self.outcome_within(DECIDING_MAX).await
    }

    async fn outcome_within(mut self, deciding_max: Duration) -> LeaderOutcome {
        loop {
            let wait_max = match *self.stage.borrow_and_update() {
                LeaderStage::Deciding => Some(deciding_max),
                LeaderStage::Compiling => None,
                LeaderStage::Storing(followers_wait) => Some(followers_wait),
                LeaderStage::Ended(outcome) => return outcome,
            };
            let changed = self.stage.changed();
            let changed = match wait_max {
                Some(wait_max) => tokio::time::timeout(wait_max, changed).await,
                None => Ok(changed.await),
            };
            match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return LeaderOutcome::Abandoned,
                Err(_) => {
                    if let Some(remove_leader) = self.remove_leader {
                        remove_leader();
                    }
                    return LeaderOutcome::Late;
                }
            }
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

    /// A limit of a follower in a test.
    const PATIENCE: Duration = Duration::from_millis(50);

    /// Fails the test if the follower still waits after a long time.
    async fn soon(outcome: impl Future<Output = LeaderOutcome>) -> LeaderOutcome {
        tokio::time::timeout(Duration::from_secs(20), outcome).await.unwrap()
    }

    #[tokio::test]
    async fn dmn_03_a_leader_that_stores_for_too_long_holds_up_no_follower() {
        let coalescer = Coalescer::default();
        let first = lead(&coalescer, 1);
        first.begin_compiling();
        let mut waiting = Box::pin(follow(&coalescer, 1).outcome_within(PATIENCE));
        // A compile may take any time.
        assert!(tokio::time::timeout(4 * PATIENCE, &mut waiting).await.is_err());
        first.begin_storing(PATIENCE);
        assert_eq!(soon(waiting).await, LeaderOutcome::Late);
        let second = lead(&coalescer, 1);
        // The first one ends at last, and is no leader any more.
        first.finish(LeaderOutcome::Stored);
        let third = follow(&coalescer, 1);
        second.finish(LeaderOutcome::NotStored);
        assert_eq!(third.outcome().await, LeaderOutcome::NotStored);
    }

    #[tokio::test]
    async fn dmn_03_a_leader_that_does_not_begin_to_compile_holds_up_no_follower() {
        let coalescer = Coalescer::default();
        let stuck = lead(&coalescer, 1);
        assert_eq!(soon(follow(&coalescer, 1).outcome_within(PATIENCE)).await, LeaderOutcome::Late);
        let second = lead(&coalescer, 1);
        drop(stuck);
        second.begin_compiling();
        drop(follow(&coalescer, 1));
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
