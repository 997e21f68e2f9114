//! Real builds through kache, compared with builds without it.
//!
//! Every test is named for the invariant that it guards. Most build a project, change or move something and build
//! again. They compare the programs' output, the messages, and the units that cargo finds fresh with those of a
//! build without kache.

// These tests compare inodes, modes and signals.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod above;
mod acting;
mod asked;
mod counting;
mod crates;
mod credentials;
mod crowd;
mod editing;
mod embedded;
mod executing;
mod files;
mod flags;
mod fresh;
mod generated;
mod home;
mod inputs;
mod layouts;
mod linked;
mod linking;
mod machines;
mod model;
mod observed;
mod places;
mod project;
mod registry;
mod remotes;
mod report;
mod rules;
mod running;
mod seeding;
mod served;
mod settings;
mod shared_inodes;
mod stalls;
mod step;
mod strays;
mod syncing;
mod texts;
mod toolchain;
mod tree;
mod trouble;
mod unit;
mod unseen;
mod values;
mod verify;
#[path = "../support/volume.rs"]
mod volume;
mod volumes;
mod world;
