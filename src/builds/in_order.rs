//! Runs work on several threads, each item after the items that it depends on.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::thread;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// The items that are left to run. An item is named by its index.
struct Schedule {
    /// For each item, how many of its dependencies are not done.
    missing: Vec<usize>,
    /// The items that may run now and that no thread has taken.
    ready: BTreeSet<usize>,
    /// How many items are not done.
    left: usize,
}

/// Runs `work` for each index of `depends_on` in topological order, on at most `threads` threads.
/// `depends_on[item]` holds the indices of the items that must be done before `item`; a dependency
/// on the item itself, on a later one or on one that does not exist is ignored. Of the items that
/// may run, the one with the lowest index runs first.
pub(super) fn run_in_order(depends_on: &[Vec<usize>], threads: NonZeroUsize, work: impl Fn(usize) + Sync) {
    let count = depends_on.len();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut missing = vec![0; count];
    for (item, others) in depends_on.iter().enumerate() {
        for &other in others.iter().filter(|other| **other < item) {
            dependents[other].push(item);
            missing[item] += 1;
        }
    }
    let ready = (0..count).filter(|item| missing[*item] == 0).collect();
    let schedule = Mutex::new(Schedule { missing, ready, left: count });
    let changed = Condvar::new();
    let run_items = || {
        let mut state: MutexGuard<'_, Schedule> = schedule.lock();
        while state.left > 0 {
            let Some(item) = state.ready.pop_first() else {
                changed.wait(&mut state);
                continue;
            };
            drop(state);
            // A guard, so that the item counts as done also if its work panics. Otherwise the other
            // threads would wait for it for ever.
            let done = DoneGuard { item, schedule: &schedule, dependents: &dependents, changed: &changed };
            work(item);
            drop(done);
            state = schedule.lock();
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(count) {
            scope.spawn(run_items);
        }
        run_items();
    });
}

/// Marks an item as done when it is dropped.
struct DoneGuard<'a> {
    item: usize,
    schedule: &'a Mutex<Schedule>,
    dependents: &'a [Vec<usize>],
    changed: &'a Condvar,
}

impl Drop for DoneGuard<'_> {
    fn drop(&mut self) {
        let mut schedule = self.schedule.lock();
        schedule.left -= 1;
        for &dependent in &self.dependents[self.item] {
            schedule.missing[dependent] -= 1;
            if schedule.missing[dependent] == 0 {
                schedule.ready.insert(dependent);
            }
        }
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the start and the end (`true`) of each item's work, in the order of time.
    fn run(depends_on: &[Vec<usize>], threads: usize) -> Vec<(usize, bool)> {
        let log = Mutex::new(Vec::new());
        run_in_order(depends_on, NonZeroUsize::new(threads).unwrap(), |item| {
            log.lock().push((item, false));
            thread::yield_now();
            log.lock().push((item, true));
        });
        log.into_inner()
    }

    proptest! {
        #[test]
        fn each_item_runs_once_and_after_its_dependencies(
            picked in prop::collection::vec(prop::collection::vec(0_usize..40, 0..4), 0..40),
            threads in 1_usize..5,
        ) {
            let log = run(&picked, threads);
            prop_assert_eq!(log.len(), 2 * picked.len());
            let at = |item: usize, is_end: bool| log.iter().position(|entry| *entry == (item, is_end)).unwrap();
            for (item, others) in picked.iter().enumerate() {
                for &other in others.iter().filter(|other| **other < item) {
                    prop_assert!(at(other, true) < at(item, false), "{} depends on {}", item, other);
                }
            }
        }
    }

    #[test]
    fn one_thread_runs_items_by_index() {
        let log = run(&[vec![], vec![], vec![0], vec![9, 3]], 1);
        let begun: Vec<usize> = log.iter().filter(|(_, is_end)| !is_end).map(|(item, _)| *item).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
        assert_eq!(run(&[], 2), []);
    }
}
