//! The benchmark of the store: `./x bench store`.
//!
//! It measures ratios in one run on one machine, against bazel-remote and against plain
//! hashing; absolute figures are printed because they explain the ratios. It judges the
//! figures in words and never by its exit code: only wrong bytes make it fail.

mod cells;
mod content;
mod http2;
mod load;
mod options;
mod report;
mod requests;
mod rounds;
mod server;
mod store;
mod wire;

use clap::Parser;

/// A server answered with other bytes than it was given.
#[derive(Debug)]
struct WrongBytes(String);

impl std::fmt::Display for WrongBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wrong bytes: {}", self.0)
    }
}

impl std::error::Error for WrongBytes {}

fn main() -> anyhow::Result<()> {
    match options::Options::parse().command {
        options::Command::Store(options) => store::run(&options),
    }
}
