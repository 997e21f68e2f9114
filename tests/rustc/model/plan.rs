//! The sequence of steps, which follows from a seed alone.
//!
//! Nothing here looks at a disk, so that some of the steps can be left out and the others stay
//! what they are.

use super::class::Classes;
use super::moves::Move;
use super::order::Call;
use super::random::Random;
use super::sources::Sources;

/// How many worktrees there are.
pub(super) const WORKTREES: usize = 3;

/// A change in one worktree, and a build.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// From 1.
    pub(super) number: usize,
    pub(super) worktree: usize,
    pub(super) change: Move,
    /// The sources when the change is made.
    pub(super) sources: Sources,
    pub(super) call: Call,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Step { number, worktree, change, call, .. } = self;
        write!(f, "step {number}, worktree {worktree}: {change:?}, then {:?}", call.order)?;
        if call.is_from_elsewhere {
            write!(f, " from elsewhere")?;
        }
        if let Some(stop) = call.stop {
            write!(f, " with a daemon that is stopped after {:?} for {:?}", stop.after, stop.length)?;
        }
        Ok(())
    }
}

/// Plans this many steps.
pub(super) fn plan(seed: u64, steps: usize, classes: &Classes) -> Vec<Step> {
    let mut random = Random::from_seed(seed);
    let first = Sources { classes: classes.clone(), ..Sources::default() };
    let mut now = vec![first; WORKTREES];
    let mut before = Vec::new();
    let mut plan = Vec::new();
    for number in 1..=steps {
        let worktree = random.below(WORKTREES);
        let others: Vec<_> = (0..WORKTREES).filter(|other| *other != worktree).collect();
        let sources = &mut now[worktree];
        let change = Move::choose(&mut random, sources, before.len(), &others);
        change.change(sources, &before);
        let call = Call::choose(&mut random, sources, classes);
        before.push(sources.clone());
        plan.push(Step { number, worktree, change, sources: sources.clone(), call });
    }
    plan
}

#[test]
fn a_plan_follows_from_its_seed_and_begins_alike_whatever_its_length() {
    let text = |seed: u64, steps: usize| {
        let classes = Classes::named("all");
        plan(seed, steps, &classes).iter().map(|step| format!("{step:?}")).collect::<Vec<_>>()
    };
    assert_eq!(text(1, 50), text(1, 100)[..50]);
    assert_ne!(text(1, 50), text(2, 50));
}
