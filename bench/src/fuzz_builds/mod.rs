//! `kache-bench fuzz-builds`: real crates with macros, changed at random, and what kache makes of
//! them against what plain cargo makes.

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
