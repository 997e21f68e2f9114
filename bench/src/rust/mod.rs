//! `kache-bench rust`: whole builds with cargo, through one wrapper after the other.

pub(crate) mod build;
mod disk;
mod project;
mod round;
mod run;
mod table;
mod volume;
mod wrapper;

pub(crate) use build::{Cargo, Checkout};
pub(crate) use disk::bytes_on_disk;
pub(crate) use project::{Project, copy};
pub(crate) use round::SETTLE;
pub(crate) use run::{beside_this, progress, run};
pub(crate) use volume::Filesystem;
pub(crate) use wrapper::{WRAPPERS, Wrapper, WrapperSetup};
