//! The benchmarks, `./x bench store`, `./x bench rust`, `./x bench edit` and `./x bench scale`,
//! and `./x demo` and `./x fuzz-builds`.
//!
//! The benchmarks measure ratios in one run on one machine: the store compared with bazel-remote and plain hashing,
//! whole builds compared with plain cargo, an oracle and other wrappers. Absolute figures are printed because they
//! explain the ratios. A missed goal is printed and does not change the exit code; wrong bytes and failed builds do.

mod cells;
mod content;
mod demo;
mod edit;
mod fuzz_builds;
mod http2;
mod load;
mod median;
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

/// A server returned other bytes than it had stored.
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
