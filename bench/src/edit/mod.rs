//! `kache-bench edit`: one's own crate is edited, and a program that uses it built again.

mod project;
mod run;

pub(crate) use run::run;
