//! What is done between two builds.

use std::fs;
use std::time::{Duration, Instant};

use super::class::Class;
use super::files::WORKSPACE;
use super::meddling::{self, Meddling, SharedLibraries, share_files};
use super::pair::{PLACES, Pair};
use super::part::{PARTS, Part};
use super::random::Random;
use super::sources::{Sources, VARIABLES, Variable};
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
    /// Back to what was there after this step, here or in another worktree.
    Return(usize),
    Clean(String),
    EmptyTarget,
    /// The file that a compiler made with this number among them.
    LoseOutput(usize),
    KillDaemon,
    RestartDaemon,
    /// To one of a few places.
    Relocate(usize),
    /// What somebody does in the target directory of the worktree with this number.
    Meddle(usize, Meddling),
}

/// How many names a module or a crate may have.
const NAMES: usize = 3;

impl Move {
    /// Any of them, after so many steps, in a worktree with these sources; `others` are the numbers
    /// of the other worktrees. What is in the way of a build does not stay long.
    pub(super) fn choose(random: &mut Random, sources: &Sources, before: usize, others: &[usize]) -> Move {
        if (sources.item_is_shadowed || sources.is_broken) && random.below(3) > 0 {
            return if sources.is_broken { Move::Break } else { Move::ShadowItem };
        }
        match random.below(36) {
            0..=9 => choose_edit(random, sources),
            10 => Move::SwitchItem,
            11 => Move::ShadowItem,
            12 => Move::RenameModule(random.below(NAMES)),
            13 => Move::RenameCrate(random.below(NAMES)),
            14 => Move::Loud,
            15 => Move::Quick,
            16 => Move::Warning,
            17 => Move::Break,
            18 => Move::Option(*random.pick(VARIABLES)),
            19 => Move::OfScript(*random.pick(VARIABLES)),
            20 => Move::SwapCompiler(random.below(2)),
            21 => Move::Touch(random.pick(&sources.files().texts()).clone()),
            22..=27 if before > 0 => Move::Return(1 + random.below(before)),
            28 => Move::Clean(random.pick(&sources.packages()).clone()),
            29 => Move::EmptyTarget,
            30 => Move::LoseOutput(random.below(1000)),
            31 | 32 if sources.classes.has(Class::Meddle) => {
                Move::Meddle(*random.pick(others), *random.pick(meddling::ALL))
            }
            33 if sources.classes.has(Class::Relocate) => Move::Relocate(random.below(PLACES.len())),
            34 => Move::KillDaemon,
            35 => Move::RestartDaemon,
            _ => choose_edit(random, sources),
        }
    }

    /// What it makes of the sources. `before` are those after each step so far.
    pub(super) fn change(&self, sources: &mut Sources, before: &[Sources]) {
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
            Move::Return(step) => *sources = before[*step - 1].clone(),
            _ => {}
        }
    }

    /// What it does besides, before the files of the worktree with this number are written.
    pub(super) fn act(&self, home: &Home, pairs: &mut [Pair], number: usize) {
        let pair = &mut pairs[number];
        match self {
            Move::Touch(path) => pair.touch(path),
            // Cargo does not know of the change, and would not ask for the crate again.
            Move::Edit(part, _) => {
                if let Some(asking) = part.varied().asked_by {
                    let file = if asking == "app" { "main.rs" } else { "lib.rs" };
                    pair.touch(&format!("{WORKSPACE}/{asking}/src/{file}"));
                }
            }
            Move::Clean(package) => {
                for tree in pair.both() {
                    home.plain_cargo(tree, &["clean", "-p", package]).run_unwatched();
                }
            }
            Move::EmptyTarget => pair.empty_target(),
            Move::LoseOutput(number) => lose_output(pair, *number),
            Move::KillDaemon => {
                home.kill_daemon();
                home.start();
            }
            Move::RestartDaemon => {
                home.stop();
                home.start();
            }
            Move::Relocate(place) => pair.relocate(*place),
            Move::Meddle(other, meddling) => {
                let shared = shared_libraries(pairs, *other);
                let trees = pairs[*other].both();
                trees.iter().for_each(|tree| meddling.apply(&tree.join("target")));
                await_separation(pairs, *other);
                if meddling.loses_bytes() {
                    shared.iter().for_each(|(sharer, libraries)| pairs[*sharer].lose_too(libraries));
                }
            }
            _ => {}
        }
    }

    /// What has to be done when the build is over. Where somebody has meddled, plain cargo's next
    /// build is nothing that can be relied on.
    pub(super) fn clear_away(&self, pairs: &[Pair]) {
        if let Move::Meddle(other, _) = self {
            pairs[*other].empty_target();
        }
    }
}

/// Another state of a part than it has.
fn choose_edit(random: &mut Random, sources: &Sources) -> Move {
    let is_varied = |class: Option<Class>| class.is_none_or(|class| sources.classes.has(class));
    let parts: Vec<_> = PARTS.iter().filter(|varied| is_varied(varied.class)).collect();
    let varied = random.pick(&parts);
    let by = 1 + random.below(varied.states - 1);
    Move::Edit(varied.part, (sources.number(varied.part) + by) % varied.states)
}

/// How long the daemon may take to notice what was done.
const SEPARATION_MAX: Duration = Duration::from_secs(1);

/// Waits until no worktree shares files with this one, whose files were changed. The daemon notices a
/// change when it is told of it, which a build that begins at the same moment may forestall. A change
/// that changes nothing separates nothing.
fn await_separation(pairs: &[Pair], number: usize) {
    let begin = Instant::now();
    while begin.elapsed() < SEPARATION_MAX && !sharers(pairs, number).is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The numbers of the other worktrees that share files with this one.
fn sharers(pairs: &[Pair], number: usize) -> Vec<usize> {
    let target = |pair: &Pair| pair.with.join("target");
    let changed = target(&pairs[number]);
    let shares = |other: &usize| *other != number && share_files(&target(&pairs[*other]), &changed);
    (0..pairs.len()).filter(shares).collect()
}

/// The libraries that other worktrees share with this one, with the numbers of those worktrees.
fn shared_libraries(pairs: &[Pair], number: usize) -> Vec<(usize, SharedLibraries)> {
    let target = |number: usize| pairs[number].with.join("target");
    let shared = |other: usize| (other, SharedLibraries::below(&target(other), &target(number)));
    (0..pairs.len()).filter(|other| *other != number).map(shared).collect()
}

fn lose_output(pair: &Pair, number: usize) {
    let debug = pair.with.join("target/debug");
    let outputs: Vec<_> = match debug.exists() {
        true => pair.with.artifacts("target/debug").into_keys().collect(),
        false => Vec::new(),
    };
    if outputs.is_empty() {
        return pair.empty_target();
    }
    for tree in pair.both() {
        let _ = fs::remove_file(tree.join("target/debug").join(&outputs[number % outputs.len()]));
    }
}
