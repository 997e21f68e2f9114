//! From a result to files and messages of this checkout.

mod build_script;
pub mod dates;
pub mod dep_info;
mod error;
pub mod messages;
pub mod paths;
mod run;
mod staging;
mod write_file;

pub use dates::is_rebuild;
pub use error::RestoreError;
pub use run::{Restored, Source, restore};
pub use staging::Staging;
pub use write_file::write_file;
