//! `kache doctor`: checks the installation, and says what is wrong and what to do about it.
//!
//! Without options it changes nothing. `--fix` makes the changes that cannot do harm: it creates
//! directories and starts the daemon, which removes the sockets of a dead one. `--probe`
//! compiles a small crate twice.

mod calls;
mod cargo;
mod daemon;
mod finding;
mod fix;
mod observer;
mod probe;
mod run;
mod settings;
mod volume;

pub(super) use run::run;
