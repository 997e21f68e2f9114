//! The outputs of a compile as files and texts: dep-info files, messages, portable paths, dates, and
//! how files are written into a checkout.
//!
//! [`crate::restore`] and [`crate::publish`] both use this module. It knows neither of them, and no
//! compiler.

mod build_script;
pub mod dates;
pub mod dep_info;
pub mod messages;
pub mod paths;
mod staging;
mod write_file;

pub use dates::is_rebuild;
pub use staging::{Staging, StagingError};
pub use write_file::write_file;
