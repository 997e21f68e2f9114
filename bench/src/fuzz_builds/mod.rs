//! `kache-bench fuzz-builds`: changes real crates with macros at random, and compares builds through kache
//! with builds by plain cargo.

mod change;
mod checkout;
mod files;
mod outcome;
mod reads;
mod round;
mod run;
mod trace;
mod variables;

pub(crate) use run::run;
