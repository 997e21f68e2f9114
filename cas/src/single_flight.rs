//! One computation per key at a time, however many want its outcome (NET-03).
//!
//! The first who asks computes; the others sleep on a condition variable and are woken
//! with its value. A leader that fails or panics takes nobody with it: one of those who
//! wait becomes the leader and computes for itself. Nothing is remembered once a flight
//! has landed; remembering is a cache's business.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Computations under way, by key.
pub struct SingleFlight<K, V> {
    flights: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

struct Flight<V> {
    state: Mutex<State<V>>,
    changed: Condvar,
}

enum State<V> {
    /// Somebody computes.
    Led,
    /// It is there.
    Landed(V),
    /// The leader gave up. Whoever joins next, or wakes first, begins anew.
    Abandoned,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        SingleFlight { flights: Mutex::new(HashMap::new()) }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// The value of `compute`, or of another's computation for the same key that was under
    /// way. An error goes only to whoever computed it.
    pub fn run<E>(&self, key: &K, compute: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        loop {
            match self.join(key) {
                Seat::Leader(lead) => {
                    let value = compute()?;
                    lead.land(value.clone());
                    return Ok(value);
                }
                Seat::Follower(flight) => {
                    if let Some(value) = flight.wait() {
                        return Ok(value);
                    }
                }
            }
        }
    }

    /// How many computations are under way.
    pub fn in_flight(&self) -> usize {
        lock(&self.flights).len()
    }

    fn join(&self, key: &K) -> Seat<'_, K, V> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(key) {
            return Seat::Follower(Arc::clone(flight));
        }
        let flight = Arc::new(Flight { state: Mutex::new(State::Led), changed: Condvar::new() });
        flights.insert(key.clone(), Arc::clone(&flight));
        Seat::Leader(Lead { all: self, key: key.clone(), flight })
    }
}

enum Seat<'a, K: Clone + Eq + Hash, V: Clone> {
    Leader(Lead<'a, K, V>),
    Follower(Arc<Flight<V>>),
}

/// The leader's seat. Leaving it without landing, by an error or a panic, abandons the
/// flight, which wakes everybody.
struct Lead<'a, K: Clone + Eq + Hash, V: Clone> {
    all: &'a SingleFlight<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Lead<'_, K, V> {
    fn land(self, value: V) {
        *lock(&self.flight.state) = State::Landed(value);
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        // The key goes first, so that whoever is woken can lead.
        lock(&self.all.flights).remove(&self.key);
        let mut state = lock(&self.flight.state);
        if matches!(*state, State::Led) {
            *state = State::Abandoned;
        }
        drop(state);
        self.flight.changed.notify_all();
    }
}

impl<V: Clone> Flight<V> {
    /// The leader's value; `None` where there is none and somebody else has to lead.
    fn wait(&self) -> Option<V> {
        let state = lock(&self.state);
        let state = self
            .changed
            .wait_while(state, |state| matches!(state, State::Led))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*state {
            State::Landed(value) => Some(value.clone()),
            State::Led | State::Abandoned => None,
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

    type Flights = SingleFlight<&'static str, u32>;

    /// Runs `followers` threads that join a flight which `lead` leads, and gives what each
    /// of them got, and how often they had to compute for themselves.
    fn with_followers(
        followers: usize,
        lead: impl FnOnce() -> Result<u32, ()> + Send,
    ) -> (Vec<Result<u32, ()>>, usize) {
        let flights = Flights::default();
        let computed = AtomicUsize::new(0);
        let (leading, lead_begun) = mpsc::channel();
        let joined = Barrier::new(followers + 1);
        let outcomes = thread::scope(|scope| {
            scope.spawn(|| {
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    flights.run(&"key", || {
                        leading.send(()).unwrap();
                        joined.wait();
                        // They are about to wait, or wait already: both must work.
                        lead()
                    })
                }));
            });
            lead_begun.recv().unwrap();
            let follow = || {
                joined.wait();
                flights.run(&"key", || {
                    computed.fetch_add(1, Ordering::SeqCst);
                    Ok::<u32, ()>(2)
                })
            };
            let threads: Vec<_> = (0..followers).map(|_| scope.spawn(follow)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(flights.in_flight(), 0, "every flight ends");
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
        let flights = Flights::default();
        assert_eq!(flights.run(&"key", || Ok::<u32, ()>(1)), Ok(1));
        assert_eq!(flights.run(&"key", || Ok::<u32, ()>(2)), Ok(2));
        assert_eq!(flights.run(&"key", || Err(3)), Err(3));
    }

    #[test]
    fn other_keys_do_not_wait() {
        let flights = Flights::default();
        let nested = flights.run(&"a", || flights.run(&"b", || Ok::<u32, ()>(1)));
        assert_eq!(nested, Ok(1));
    }
}
