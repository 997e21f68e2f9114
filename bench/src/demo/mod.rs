//! `kache-bench demo`: what `./x demo` shows.

mod report;
mod run;
mod screen;

pub(crate) use run::run;
