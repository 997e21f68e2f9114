//! A workspace that is changed at random, built through kache and without it.
//!
//! Whatever was changed, moved, removed or swapped, in whichever worktree: what cargo says,
//! what programs print and what cargo takes for fresh is what it would be without kache. The
//! sequence follows from a seed, which a failure prints.

mod moves;
mod pair;
mod random;
mod run;
mod sources;
