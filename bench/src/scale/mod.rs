//! `kache-bench scale`: what a hit costs as a workspace grows.

mod calls;
mod project;
mod run;

pub(crate) use run::run;
