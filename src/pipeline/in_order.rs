//! Things done on several threads, each after those that it depends on.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What is left to do.
struct Plan {
    /// How many of those that each depends on are not done.
    lacking: Vec<usize>,
    /// Those that lack nothing, by their places.
    ready: BTreeSet<usize>,
    /// How many are not done.
    left: usize,
}

/// Does `work` for every place of `depends_on`, which says after which others: on so many
/// threads, first ones first. What depends on itself, or on a place that there is not, waits for
/// nobody.
pub(super) fn in_order(depends_on: &[Vec<usize>], threads: NonZeroUsize, work: impl Fn(usize) + Sync) {
    let count = depends_on.len();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut lacking = vec![0; count];
    for (place, others) in depends_on.iter().enumerate() {
        for &other in others.iter().filter(|other| **other < place) {
            dependents[other].push(place);
            lacking[place] += 1;
        }
    }
    let ready = (0..count).filter(|place| lacking[*place] == 0).collect();
    let plan = Mutex::new(Plan { lacking, ready, left: count });
    let changed = Condvar::new();
    let work_on = || {
        let mut doing: MutexGuard<'_, Plan> = lock(&plan);
        while doing.left > 0 {
            let Some(place) = doing.ready.pop_first() else {
                doing = changed.wait(doing).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(doing);
            // Told also if it panics: whoever waits would wait for ever.
            let done = Done { place, plan: &plan, dependents: &dependents, changed: &changed };
            work(place);
            drop(done);
            doing = lock(&plan);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(count) {
            scope.spawn(work_on);
        }
        work_on();
    });
}

/// Says, when it is dropped, that one is done.
struct Done<'a> {
    place: usize,
    plan: &'a Mutex<Plan>,
    dependents: &'a [Vec<usize>],
    changed: &'a Condvar,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut plan = lock(self.plan);
        plan.left -= 1;
        for &dependent in &self.dependents[self.place] {
            plan.lacking[dependent] -= 1;
            if plan.lacking[dependent] == 0 {
                plan.ready.insert(dependent);
            }
        }
        self.changed.notify_all();
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(depends_on: &[Vec<usize>], threads: usize) -> Vec<(usize, bool)> {
        let told = Mutex::new(Vec::new());
        in_order(depends_on, NonZeroUsize::new(threads).unwrap(), |place| {
            told.lock().unwrap().push((place, false));
            thread::yield_now();
            told.lock().unwrap().push((place, true));
        });
        told.into_inner().unwrap()
    }

    proptest! {
        #[test]
        fn each_is_done_once_and_after_those_that_it_depends_on(
            picked in prop::collection::vec(prop::collection::vec(0_usize..40, 0..4), 0..40),
            threads in 1_usize..5,
        ) {
            let told = order(&picked, threads);
            prop_assert_eq!(told.len(), 2 * picked.len());
            let at = |place: usize, is_end: bool| told.iter().position(|one| *one == (place, is_end)).unwrap();
            for (place, others) in picked.iter().enumerate() {
                for &other in others.iter().filter(|other| **other < place) {
                    prop_assert!(at(other, true) < at(place, false), "{} depends on {}", place, other);
                }
            }
        }
    }

    #[test]
    fn one_thread_goes_in_order() {
        let told = order(&[vec![], vec![], vec![0], vec![9, 3]], 1);
        let begun: Vec<usize> = told.iter().filter(|(_, is_end)| !is_end).map(|(place, _)| *place).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
        assert_eq!(order(&[], 2), []);
    }
}
