//! The benchmarks, `./x bench store`, `./x bench rust`, `./x bench edit` and `./x bench scale`,
//! and `./x demo` and `./x fuzz-builds`.
//!
//! They measure ratios in one run on one machine: the store against bazel-remote and plain
//! hashing, whole builds against plain cargo, an oracle and other wrappers. Absolute figures
//! are printed because they explain the ratios. Figures are judged in words and never by the
//! exit code: only wrong bytes and builds that fail make it fail.

mod cells;
mod content;
mod demo;
mod edit;
mod fuzz_builds;
mod http2;
mod load;
mod options;
mod report;
mod requests;
mod rounds;
mod rust;
mod scale;
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
        options::Command::Demo(options) => demo::run(&options),
        options::Command::FuzzBuilds(options) => fuzz_builds::run(&options),
        options::Command::Edit(options) => edit::run(&options),
        options::Command::Rust(options) => rust::run(&options),
        options::Command::Scale(options) => scale::run(&options),
        options::Command::Store(options) => store::run(&options),
    }
}
