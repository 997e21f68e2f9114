//! Configuration: what can be set, where it came from, and what it means.

mod diagnostic;
pub mod env_vars;
mod environment;
mod file;
mod key;
mod layer;
mod load;
mod reference;
pub mod serve;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod value;

pub use diagnostic::{ConfigError, ConfigErrors, Site};
pub use env_vars::Variable;
pub use environment::{Environment, XdgDirs};
pub use file::CONFIG_BYTES_MAX;
pub use key::{Key, Scope};
pub use load::{Config, Origin, PROJECT_FILE, Resolved, Sources, load};
pub use reference::page as reference_page;
pub use settings::{LogSettings, Settings};
pub use show::{DEFAULT_FILE, list, value_of};
pub use value::{Kind, Level, Value};
