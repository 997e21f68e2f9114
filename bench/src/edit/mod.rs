//! `kache-bench edit`: edits a crate of a workspace, and builds a program that uses it.

mod project;
mod run;

pub(crate) use run::run;
