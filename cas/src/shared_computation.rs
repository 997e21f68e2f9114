//! One computation per key at a time, however many want its outcome (NET-03).
//!
//! The first who asks computes; the others sleep on a condition variable and are woken
//! with its value. A leader that fails or panics takes nobody with it: one of those who
//! wait becomes the leader and computes for itself. Nothing is remembered once a computation
//! has landed; remembering is a cache's business.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Computations under way, by key.
pub struct SharedComputations<K, V> {
    pending: Mutex<HashMap<K, Arc<PendingComputation<V>>>>,
}

struct PendingComputation<V> {
    state: Mutex<ComputationState<V>>,
    changed: Condvar,
}

enum ComputationState<V> {
    /// Somebody computes.
    Running,
    /// It is there.
    Done(V),
    /// The leader gave up. Whoever joins next, or wakes first, begins anew.
    Abandoned,
}

impl<K, V> Default for SharedComputations<K, V> {
    fn default() -> Self {
        SharedComputations { pending: Mutex::new(HashMap::new()) }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> SharedComputations<K, V> {
    /// The value of `compute`, or of another's computation for the same key that was under
    /// way. An error goes only to whoever computed it.
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

    /// How many computations are under way.
    pub fn pending_count(&self) -> usize {
        lock(&self.pending).len()
    }

    fn join(&self, key: &K) -> Joined<'_, K, V> {
        let mut pending = lock(&self.pending);
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

/// The leader's seat. Leaving it without landing, by an error or a panic, abandons the
/// computation, which wakes everybody.
struct ComputationLeader<'a, K: Clone + Eq + Hash, V: Clone> {
    all: &'a SharedComputations<K, V>,
    key: K,
    computation: Arc<PendingComputation<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> ComputationLeader<'_, K, V> {
    fn finish(self, value: V) {
        *lock(&self.computation.state) = ComputationState::Done(value);
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for ComputationLeader<'_, K, V> {
    fn drop(&mut self) {
        // The key goes first, so that whoever is woken can leader.
        lock(&self.all.pending).remove(&self.key);
        let mut state = lock(&self.computation.state);
        if matches!(*state, ComputationState::Running) {
            *state = ComputationState::Abandoned;
        }
        drop(state);
        self.computation.changed.notify_all();
    }
}

impl<V: Clone> PendingComputation<V> {
    /// The leader's value; `None` where there is none and somebody else has to leader.
    fn wait(&self) -> Option<V> {
        let state = lock(&self.state);
        let state = self
            .changed
            .wait_while(state, |state| matches!(state, ComputationState::Running))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*state {
            ComputationState::Done(value) => Some(value.clone()),
            ComputationState::Running | ComputationState::Abandoned => None,
        }
    }
}

/// A leader may panic while it computes, but holds no lock then; what a lock guards is
/// whole at every moment, so poison says nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    type Computations = SharedComputations<&'static str, u32>;

    /// Runs `followers` threads that join a computation which `leader` leads, and gives what each
    /// of them got, and how often they had to compute for themselves.
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
                        // They are about to wait, or wait already: both must work.
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

    /// Long enough for threads that were let go together to have fallen asleep.
    fn let_them_wait() {
        thread::sleep(std::time::Duration::from_millis(50));
    }

    #[test]
    fn net_03_those_who_wait_get_the_leaders_value() {
        let (outcomes, computed) = with_followers(8, || {
            let_them_wait();
            Ok(1)
        });
        assert_eq!(outcomes, vec![Ok(1); 8]);
        assert_eq!(computed, 0, "nobody else computes");
    }

    #[test]
    fn net_03_a_leader_that_fails_hands_over() {
        let (outcomes, computed) = with_followers(8, || {
            let_them_wait();
            Err(())
        });
        assert_eq!(outcomes, vec![Ok(2); 8], "its error is its own");
        assert!(computed >= 1);
    }

    #[test]
    fn net_03_a_leader_that_dies_hands_over() {
        let (outcomes, computed) = with_followers(8, || {
            let_them_wait();
            panic!("the leader dies")
        });
        assert_eq!(outcomes, vec![Ok(2); 8]);
        assert!(computed >= 1);
    }

    #[test]
    fn a_flight_is_not_remembered() {
        let pending = Computations::default();
        assert_eq!(pending.run(&"key", || Ok::<u32, ()>(1)), Ok(1));
        assert_eq!(pending.run(&"key", || Ok::<u32, ()>(2)), Ok(2));
        assert_eq!(pending.run(&"key", || Err(3)), Err(3));
    }

    #[test]
    fn other_keys_do_not_wait() {
        let pending = Computations::default();
        let nested = pending.run(&"a", || pending.run(&"b", || Ok::<u32, ()>(1)));
        assert_eq!(nested, Ok(1));
    }
}
