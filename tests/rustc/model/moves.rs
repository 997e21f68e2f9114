//! What is done between two builds.

use std::fs;

use super::pair::{Order, Pair};
use super::random::Random;
use super::sources::{PARTS, Part, Sources, VALUES, VARIABLES, Variable};
use crate::home::Home;

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Edit(Part, usize),
    SwitchItem,
    ShadowItem,
    RenameModule(usize),
    RenameCrate(usize),
    Loud,
    Quick,
    Warning,
    Break,
    Option(Variable),
    OfScript(Variable),
    SwapCompiler(usize),
    Touch(String),
    /// Back to what was there, here or in another worktree.
    Return(Box<Sources>),
    Clean(String),
    EmptyTarget,
    LoseOutput(String),
    KillDaemon,
    RestartDaemon,
}

impl Move {
    /// Any of them. What is in the way of a build does not stay long.
    pub(super) fn choose(random: &mut Random, pair: &Pair, before: &[Sources]) -> Move {
        let sources = &pair.sources;
        if (sources.item_is_shadowed || sources.is_broken) && random.below(3) > 0 {
            return if sources.is_broken { Move::Break } else { Move::ShadowItem };
        }
        match random.below(28) {
            0..=5 => {
                let part = *random.pick(PARTS);
                // Another one than it is.
                let by = 1 + random.below(VALUES - 1);
                Move::Edit(part, (sources.number(part) + by) % VALUES)
            }
            6 => Move::SwitchItem,
            7 => Move::ShadowItem,
            8 => Move::RenameModule(random.below(VALUES)),
            9 => Move::RenameCrate(random.below(VALUES)),
            10 => Move::Loud,
            11 => Move::Quick,
            12 => Move::Warning,
            13 => Move::Break,
            14 => Move::Option(*random.pick(VARIABLES)),
            15 => Move::OfScript(*random.pick(VARIABLES)),
            16 => Move::SwapCompiler(random.below(2)),
            17 => {
                let files: Vec<_> = sources.files().into_keys().collect();
                Move::Touch(random.pick(&files).clone())
            }
            18..=23 if !before.is_empty() => Move::Return(Box::new(random.pick(before).clone())),
            24 => Move::Clean(random.pick(&sources.packages()).clone()),
            25 => Move::EmptyTarget,
            26 => choose_output(random, pair),
            _ if random.below(2) == 0 => Move::KillDaemon,
            _ => Move::RestartDaemon,
        }
    }

    pub(super) fn apply(&self, home: &Home, pair: &mut Pair) {
        let sources = &mut pair.sources;
        match self {
            Move::Edit(part, value) => drop(sources.numbers.insert(*part, *value)),
            Move::SwitchItem => sources.item_has_directory ^= true,
            Move::ShadowItem => sources.item_is_shadowed ^= true,
            Move::RenameModule(name) => sources.module_name = *name,
            Move::RenameCrate(name) => sources.crate_name = *name,
            Move::Loud => sources.is_loud ^= true,
            Move::Quick => sources.is_quick ^= true,
            Move::Warning => sources.has_warning ^= true,
            Move::Break => sources.is_broken ^= true,
            Move::Option(value) => sources.option = *value,
            Move::OfScript(value) => sources.of_script = *value,
            Move::SwapCompiler(compiler) => sources.compiler = *compiler,
            Move::Return(before) => *sources = (**before).clone(),
            Move::Touch(path) => pair.touch(path),
            Move::Clean(package) => {
                for tree in pair.both() {
                    home.plain_cargo(tree, &["clean", "-p", package]).run_unwatched();
                }
            }
            Move::EmptyTarget => {
                for tree in pair.both().into_iter().filter(|tree| tree.join("target").exists()) {
                    tree.remove("target");
                }
            }
            Move::LoseOutput(path) => {
                for tree in pair.both() {
                    let _ = fs::remove_file(tree.join(path));
                }
            }
            Move::KillDaemon => {
                home.kill_daemon();
                home.start();
            }
            Move::RestartDaemon => {
                home.stop();
                home.start();
            }
        }
        pair.write();
    }
}

/// A file that a compiler made.
fn choose_output(random: &mut Random, pair: &Pair) -> Move {
    if !pair.with.join("target/debug").exists() {
        return Move::EmptyTarget;
    }
    let outputs: Vec<_> = pair.with.artifacts("target/debug").into_keys().collect();
    match outputs.is_empty() {
        true => Move::EmptyTarget,
        false => Move::LoseOutput(format!("target/debug/{}", random.pick(&outputs))),
    }
}

impl Order {
    pub(super) fn choose(random: &mut Random, sources: &Sources) -> Order {
        match random.below(12) {
            0..=5 => Order::Build,
            6 => Order::BuildOne(random.pick(&sources.packages()).clone()),
            7 | 8 => Order::Check,
            9 => Order::Release,
            _ => Order::Test,
        }
    }
}
