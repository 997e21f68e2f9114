//! Configuration: what can be set, where it came from, and what it means.

#[cfg(test)]
mod call_tests;
mod calls;
mod compile;
mod declared;
mod diagnostic;
pub mod env_vars;
mod environment;
mod file;
mod glob;
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

pub use calls::CallConfigs;
pub use compile::{CompileSettings, Facts, KeySettings, RootSettings, VariableName};
pub use declared::{DECLARATION_FILE, Declared};
pub use diagnostic::{ConfigError, ConfigErrors, Site};
pub use env_vars::Variable;
pub use environment::{Environment, XdgDirs};
pub use file::CONFIG_BYTES_MAX;
pub use glob::{PathGlob, Pattern};
pub use key::{Audience, Key, Scope};
pub use load::{Config, Origin, PROJECT_FILE, Resolved, Sources, load, user_file};
pub use reference::page as reference_page;
pub use settings::{LogSettings, Settings};
pub use show::{DEFAULT_FILE, list, value_of};
pub use value::{FileSharing, Kind, Level, Progress, Value};
