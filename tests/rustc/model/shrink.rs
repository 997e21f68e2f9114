//! From a sequence that fails to a shorter one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::plan::Step;
use super::world::World;

/// Leaves steps out, many at first and single ones in the end, as long as the last step still
/// fails. The numbers of those that stay, separated by commas.
#[expect(clippy::print_stdout, reason = "a person waits for it")]
pub(super) fn shrink(plan: &[Step], world: impl Fn() -> World, limit: Duration) -> String {
    let begin = Instant::now();
    let mut kept: Vec<&Step> = plan.iter().collect();
    let mut size = kept.len() / 2;
    while size > 0 && begin.elapsed() < limit {
        let mut from = 0;
        // The last one is the one that fails.
        while from + 1 < kept.len() && begin.elapsed() < limit {
            let to = (from + size).min(kept.len() - 1);
            let shorter: Vec<_> = kept[..from].iter().chain(&kept[to..]).copied().collect();
            if fails(&shorter, world()) {
                kept = shorter;
            } else {
                from = to;
            }
        }
        size /= 2;
    }
    kept.iter().for_each(|step| println!("    {step}"));
    kept.iter().map(|step| step.number.to_string()).collect::<Vec<_>>().join(",")
}

/// Whether the last one fails. That an earlier one does is another failure.
fn fails(steps: &[&Step], mut world: World) -> bool {
    let Some((last, before)) = steps.split_last() else { return false };
    let mut fails = |step: &Step| catch_unwind(AssertUnwindSafe(|| world.take(step))).is_err();
    !before.iter().any(|step| fails(step)) && fails(last)
}
