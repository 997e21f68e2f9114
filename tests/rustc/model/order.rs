//! How cargo is called, from which directory, and what happens to the daemon meanwhile.

use std::time::Duration;

use super::class::{Class, Classes};
use super::random::Random;
use super::sources::Sources;

/// What cargo shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Build,
    BuildOne(String),
    Check,
    Release,
    Test,
    /// Builds what `Test` runs.
    BuildTests,
}

/// Without this it is chance which crates are still compiled when one has failed.
const KEEP_GOING: &str = "--keep-going";

impl Order {
    pub(super) fn arguments(&self) -> Vec<&str> {
        match self {
            Order::Build => vec!["build", "--workspace", KEEP_GOING],
            Order::BuildOne(package) => vec!["build", "-p", package, KEEP_GOING],
            Order::Check => vec!["check", "--workspace", "--all-targets", KEEP_GOING],
            Order::Release => vec!["build", "--release", KEEP_GOING],
            Order::Test => vec!["test", "--workspace", "--bins", "--tests", "--", "--nocapture"],
            Order::BuildTests => vec!["build", "--workspace", "--bins", "--tests", KEEP_GOING],
        }
    }

    /// The program that it makes.
    pub(super) fn program(&self) -> Option<&str> {
        match self {
            Order::Build => Some("target/debug/app"),
            Order::Release => Some("target/release/app"),
            Order::BuildOne(_) | Order::Check | Order::Test | Order::BuildTests => None,
        }
    }

    fn choose(random: &mut Random, sources: &Sources) -> Order {
        match random.below(12) {
            0..=5 => Order::Build,
            6 => Order::BuildOne(random.pick(&sources.packages()).clone()),
            7 | 8 => Order::Check,
            9 => Order::Release,
            _ => Order::Test,
        }
    }
}

/// When the daemon is stopped, and when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// So long after cargo was started.
    pub(super) after: Duration,
    /// So long after that, or when cargo has ended.
    pub(super) length: Option<Duration>,
}

impl Stop {
    fn choose(random: &mut Random) -> Stop {
        let after = Duration::from_millis(*random.pick(&[0, 20, 60, 150, 400, 800]));
        let length = (random.below(3) > 0).then(|| Duration::from_millis(*random.pick(&[50, 300, 1500])));
        Stop { after, length }
    }
}

/// One call of cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) order: Order,
    /// Whether it is called in another directory, and told of the manifest.
    pub(super) is_from_elsewhere: bool,
    pub(super) stop: Option<Stop>,
}

/// Of so many builds, one is called from elsewhere; the daemon is stopped in one.
const ELSEWHERE: usize = 6;
const STOPPED: usize = 15;

impl Call {
    pub(super) fn choose(random: &mut Random, sources: &Sources, classes: &Classes) -> Call {
        let order = Order::choose(random, sources);
        let is_from_elsewhere = classes.has(Class::Elsewhere) && random.below(ELSEWHERE) == 0;
        let is_stopped = classes.has(Class::Stop) && random.below(STOPPED) == 0;
        Call { order, is_from_elsewhere, stop: is_stopped.then(|| Stop::choose(random)) }
    }
}
