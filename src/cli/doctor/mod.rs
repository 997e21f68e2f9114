//! `kache doctor`: what is wrong, if anything is, and what to do about it.
//!
//! Without options it looks and changes nothing. `--fix` does what can do no harm: it makes
//! directories and starts the daemon, which clears away what a dead one left. `--probe`
//! compiles a crate of its own twice.

mod calls;
mod cargo;
mod daemon;
mod finding;
mod mend;
mod observer;
mod probe;
mod run;
mod settings;
mod volume;

pub(super) use run::run;
