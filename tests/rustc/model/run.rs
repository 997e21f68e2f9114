//! The test, and what it obeys.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::class::Classes;
use super::plan::{Step, plan};
use super::shrink::shrink;
use super::world::{Edits, World};

/// What CI does: always the same, so that no change is blamed for another one's fault.
const SEED: u64 = 1;
const STEPS: usize = 100;

/// After so many steps the next seed begins, in a home of its own. A failure is then soon seen
/// again.
const STEPS_OF_A_SEED_MAX: usize = 50;

/// A step that takes part in a failure is printed, and so many before it.
const SHOWN: usize = 10;

/// What a person may ask for.
struct Wanted {
    seed: u64,
    steps: usize,
    /// Those that CI runs if there are none.
    classes: Option<Classes>,
    /// Only these steps; all if there are none.
    only: Vec<usize>,
    /// How long it may take to look for a shorter sequence that fails.
    shrink: Duration,
}

impl Wanted {
    #[expect(clippy::disallowed_methods, reason = "a person who explores says so in the test's environment")]
    fn from_environment() -> Wanted {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str| text(name).map(|value| value.parse::<u64>().unwrap());
        let only = text("KACHE_MODEL_ONLY").unwrap_or_default();
        Wanted {
            seed: number("KACHE_MODEL_SEED").unwrap_or(SEED),
            steps: number("KACHE_MODEL_STEPS").map_or(STEPS, |steps| usize::try_from(steps).unwrap()),
            classes: text("KACHE_MODEL_CLASSES").as_deref().map(Classes::named),
            only: only.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect(),
            shrink: Duration::from_secs(number("KACHE_MODEL_SHRINK").unwrap_or_default()),
        }
    }

    fn classes_of(&self, seed: u64) -> Classes {
        self.classes.clone().unwrap_or_else(|| Classes::promised(seed))
    }

    /// How to ask for the same again.
    fn text(&self, seed: u64, steps: usize) -> String {
        let classes = self.classes_of(seed).text();
        format!("KACHE_MODEL_SEED={seed} KACHE_MODEL_STEPS={steps} KACHE_MODEL_CLASSES={classes}")
    }
}

#[test]
fn key_01_whatever_is_changed_a_build_is_what_it_is_without_kache() {
    let wanted = Wanted::from_environment();
    let mut left = wanted.steps;
    let mut compiles = [0, 0];
    for seed in wanted.seed.. {
        let steps = left.min(STEPS_OF_A_SEED_MAX);
        println!("{}", wanted.text(seed, steps));
        let mut plan = plan(seed, steps, &wanted.classes_of(seed));
        plan.retain(|step| wanted.only.is_empty() || wanted.only.contains(&step.number));
        let counts = run(&wanted, seed, &plan);
        compiles.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        left -= steps;
        if left == 0 {
            break;
        }
    }
    let [hits, others] = compiles;
    println!("{hits} of {} compiles were hits", hits + others);
    // Two builds have something in common, and one alone proves nothing.
    assert!(wanted.steps < STEPS || (hits > 0 && others > 0));
}

/// What happens to crates that are edited: with even seeds, kache's default.
fn edits_of(seed: u64) -> Edits {
    if seed.is_multiple_of(2) { Edits::Incremental } else { Edits::Cached }
}

/// Takes the steps of one seed, and tells of the first that goes wrong.
#[expect(clippy::print_stdout, reason = "a person reads it when the test fails")]
fn run(wanted: &Wanted, seed: u64, plan: &[Step]) -> [usize; 2] {
    let mut world = World::new(&wanted.classes_of(seed), edits_of(seed));
    let mut compiles = [0, 0];
    for (index, step) in plan.iter().enumerate() {
        let begin = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| world.take(step))) {
            Ok(counts) => {
                println!("{step}: {:.1} s", begin.elapsed().as_secs_f64());
                compiles.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            Err(panic) => {
                println!("\nwhat was done last:");
                plan[index.saturating_sub(SHOWN)..=index].iter().for_each(|step| println!("    {step}"));
                let again = wanted.text(seed, step.number);
                println!("to see this again: {again}\nto look for fewer steps, add KACHE_MODEL_SHRINK=600");
                if !wanted.shrink.is_zero() {
                    let only = shrink(
                        &plan[..=index],
                        || World::new(&wanted.classes_of(seed), edits_of(seed)),
                        wanted.shrink,
                    );
                    println!("these steps are enough: {again} KACHE_MODEL_ONLY={only}");
                }
                resume_unwind(panic);
            }
        }
    }
    compiles
}
