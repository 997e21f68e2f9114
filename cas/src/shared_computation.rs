//! Threads that need the same value at the same time share one computation of it (NET-03).
//!
//! The first thread that asks for a key is the leader and computes; the others are followers,
//! which sleep until they get the leader's value. If the leader fails or panics, one of its
//! followers becomes the leader and computes again. Values are not remembered after the
//! computation has ended; that is the duty of a cache.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// The computations that are running, by key.
pub struct SharedComputations<K, V> {
    pending: Mutex<HashMap<K, Arc<PendingComputation<V>>>>,
}

struct PendingComputation<V> {
    state: Mutex<ComputationState<V>>,
    changed: Condvar,
}

enum ComputationState<V> {
    Running,
    /// The leader has the value.
    Done(V),
    /// The leader failed. The next thread to join or to wake computes again.
    Abandoned,
}

impl<K, V> Default for SharedComputations<K, V> {
    fn default() -> Self {
        SharedComputations { pending: Mutex::new(HashMap::new()) }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> SharedComputations<K, V> {
    /// Returns the value of `compute`, or that of another thread's computation for the same key if
    /// one is running; the call then waits for it. An error is returned only to the thread whose
    /// `compute` failed.
    pub fn run<E>(&self, key: &K, compute: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        loop {
            match self.join(key) {
                Joined::Leader(leader) => {
                    let value = compute()?;
                    leader.finish(value.clone());
                    return Ok(value);
                }
                Joined::Follower(computation) => {
                    if let Some(value) = computation.wait() {
                        return Ok(value);
                    }
                }
            }
        }
    }

    /// Returns how many computations are running.
    pub fn pending_count(&self) -> usize {
        self.pending.lock().len()
    }

    fn join(&self, key: &K) -> Joined<'_, K, V> {
        let mut pending = self.pending.lock();
        if let Some(computation) = pending.get(key) {
            return Joined::Follower(Arc::clone(computation));
        }
        let computation = Arc::new(PendingComputation {
            state: Mutex::new(ComputationState::Running),
            changed: Condvar::new(),
        });
        pending.insert(key.clone(), Arc::clone(&computation));
        Joined::Leader(ComputationLeader { all: self, key: key.clone(), computation })
    }
}

enum Joined<'a, K: Clone + Eq + Hash, V: Clone> {
    Leader(ComputationLeader<'a, K, V>),
    Follower(Arc<PendingComputation<V>>),
}

/// Held by the leader while it computes. Dropping it without `finish`, because of an error or a
/// panic, abandons the computation and wakes all followers.
struct ComputationLeader<'a, K: Clone + Eq + Hash, V: Clone> {
    all: &'a SharedComputations<K, V>,
    key: K,
    computation: Arc<PendingComputation<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> ComputationLeader<'_, K, V> {
    fn finish(self, value: V) {
        *self.computation.state.lock() = ComputationState::Done(value);
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for ComputationLeader<'_, K, V> {
    fn drop(&mut self) {
        // The key is removed first, so that a follower that is woken can become the leader.
        self.all.pending.lock().remove(&self.key);
        let mut state = self.computation.state.lock();
        if matches!(*state, ComputationState::Running) {
            *state = ComputationState::Abandoned;
        }
        drop(state);
        self.computation.changed.notify_all();
    }
}

impl<V: Clone> PendingComputation<V> {
    /// Waits for the leader. Returns its value, or `None` if it failed and the caller has to try
    /// to become the leader.
    fn wait(&self) -> Option<V> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| matches!(state, ComputationState::Running));
        match &*state {
            ComputationState::Done(value) => Some(value.clone()),
            ComputationState::Running | ComputationState::Abandoned => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    type Computations = SharedComputations<&'static str, u32>;

    /// Runs `followers` threads that join a computation whose leader runs `leader`. Returns the
    /// result that each follower got, and how often a follower computed by itself.
    fn with_followers(
        followers: usize,
        leader: impl FnOnce() -> Result<u32, ()> + Send,
    ) -> (Vec<Result<u32, ()>>, usize) {
        let pending = Computations::default();
        let computed = AtomicUsize::new(0);
        let (leading, lead_begun) = mpsc::channel();
        let joined = Barrier::new(followers + 1);
        let outcomes = thread::scope(|scope| {
            scope.spawn(|| {
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    pending.run(&"key", || {
                        leading.send(()).unwrap();
                        joined.wait();
                        // The followers are about to wait, or wait already: both must work.
                        leader()
                    })
                }));
            });
            lead_begun.recv().unwrap();
            let follow = || {
                joined.wait();
                pending.run(&"key", || {
                    computed.fetch_add(1, Ordering::SeqCst);
                    Ok::<u32, ()>(2)
                })
            };
            let threads: Vec<_> = (0..followers).map(|_| scope.spawn(follow)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(pending.pending_count(), 0, "every computation ends");
        (outcomes, computed.into_inner())
    }

    /// Sleeps long enough for all followers to be waiting.
    fn let_them_wait() {
        thread::sleep(std::time::Duration::from_millis(50));
    }

    #[test]
    fn net_03_followers_get_the_leaders_value() {
        let (outcomes, computed) = with_followers(8, || {
            let_them_wait();
            Ok(1)
        });
        assert_eq!(outcomes, vec![Ok(1); 8]);
        assert_eq!(computed, 0, "no follower computes");
    }

    #[test]
    fn net_03_a_follower_computes_after_the_leader_fails() {
        let (outcomes, computed) = with_followers(8, || {
            let_them_wait();
            Err(())
        });
        assert_eq!(outcomes, vec![Ok(2); 8], "its error is its own");
        assert!(computed >= 1);
    }

    #[test]
    fn net_03_a_follower_computes_after_the_leader_panics() {
        let (outcomes, computed) = with_followers(8, || {
            let_them_wait();
            panic!("the leader dies")
        });
        assert_eq!(outcomes, vec![Ok(2); 8]);
        assert!(computed >= 1);
    }

    #[test]
    fn a_value_is_not_remembered() {
        let pending = Computations::default();
        assert_eq!(pending.run(&"key", || Ok::<u32, ()>(1)), Ok(1));
        assert_eq!(pending.run(&"key", || Ok::<u32, ()>(2)), Ok(2));
        assert_eq!(pending.run(&"key", || Err(3)), Err(3));
    }

    #[test]
    fn a_computation_does_not_block_other_keys() {
        let pending = Computations::default();
        let nested = pending.run(&"a", || pending.run(&"b", || Ok::<u32, ()>(1)));
        assert_eq!(nested, Ok(1));
    }
}
