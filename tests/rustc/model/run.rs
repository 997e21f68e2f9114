//! The sequence.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::moves::Move;
use super::pair::{Order, Pair};
use super::random::Random;
use crate::home::Home;
use crate::toolchain::patched_rustc;

/// What CI does: always the same, so that no change is blamed for another one's fault.
const SEED: u64 = 1;
const STEPS: u64 = 60;

/// Two other ones are `KACHE_MODEL_SEED` and `KACHE_MODEL_STEPS`.
#[expect(clippy::disallowed_methods, reason = "whoever explores says so in the environment of the test")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn key_01_whatever_is_changed_a_build_is_what_it_is_without_kache() {
    let (seed, steps) = (number("KACHE_MODEL_SEED", SEED), number("KACHE_MODEL_STEPS", STEPS));
    println!("KACHE_MODEL_SEED={seed} KACHE_MODEL_STEPS={steps}");
    let mut random = Random::from_seed(seed);
    let home = Home::new();
    let compilers = [1, 2].map(|value| patched_rustc(&home.tree(&format!("compiler {value}")), value));
    let mut pairs = ["one", "the second", "c"].map(|name| Pair::new(&home, name));
    pairs.iter().for_each(Pair::write);
    let mut before = Vec::new();
    let mut compiles = [0, 0];
    for step in 1..=steps {
        let pair = random.below(pairs.len());
        let one = &mut pairs[pair];
        let change = Move::choose(&mut random, one, &before);
        let order = Order::choose(&mut random, &one.sources);
        println!("step {step}, worktree {pair}: {change:?}, then {order:?}");
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            change.apply(&home, one);
            one.carry_out(&home, &order, &compilers)
        }));
        match outcome {
            Ok(counts) => compiles.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
            Err(panic) => {
                println!("to see this again: KACHE_MODEL_SEED={seed} KACHE_MODEL_STEPS={step}");
                resume_unwind(panic);
            }
        }
        before.push(pairs[pair].sources.clone());
    }
    let [hits, others] = compiles;
    println!("{hits} of {} compiles were hits", hits + others);
    // Two builds have something in common, and one alone proves nothing.
    assert!(steps < STEPS || (hits > 0 && others > 0));
}
