//! The configuration: which keys exist, where their values come from, and what they mean.
//!
//! Data goes one way: variables and files (`environment`, `file`) are parsed (`layer`, `value`),
//! combined (`load`) and turned into settings for the daemon (`settings`) or for one call
//! (`compile`). This module knows no daemon, no store and no compiler.

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
mod remotes;
mod settings;
mod show;
#[cfg(test)]
mod tests;
mod value;

pub use calls::CallConfigs;
pub use compile::{CompileSettings, KeySettings, RootSettings, RuleInput, VariableName};
pub use declared::{DECLARATION_FILE, Declared};
pub use diagnostic::{ConfigError, ConfigErrors, Site};
pub use env_vars::Variable;
pub use environment::{Environment, XdgDirs};
pub use file::CONFIG_BYTES_MAX;
pub use glob::{PathGlob, WordGlob};
pub use key::{Audience, Key, Scope};
pub use load::{Config, ConfigSources, Origin, PROJECT_FILE, Resolved, load, user_file};
pub use reference::page as reference_page;
pub use remotes::{RemoteSettings, exposed_files, remotes};
pub use settings::{LogSettings, Settings};
pub use show::{DEFAULT_FILE, list, value_of, values_of_remotes};
pub use value::{FileSharing, Level, ProgressMode, Value, ValueKind};
