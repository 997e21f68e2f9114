//! `kache-bench scale`: measures the cost of a hit in workspaces of several sizes.

mod calls;
mod project;
mod run;

pub(crate) use run::run;
