//! Builds through kache, as the tests of builds run them.

#[path = "../rustc/counting.rs"]
pub(crate) mod counting;
#[path = "../rustc/credentials.rs"]
pub(crate) mod credentials;
#[path = "../rustc/home.rs"]
pub(crate) mod home;
#[path = "../rustc/machines.rs"]
pub(crate) mod machines;
#[path = "../rustc/project.rs"]
pub(crate) mod project;
#[path = "../rustc/registry.rs"]
pub(crate) mod registry;
#[path = "../rustc/report.rs"]
pub(crate) mod report;
#[path = "../rustc/step.rs"]
pub(crate) mod step;
#[path = "../rustc/tree.rs"]
pub(crate) mod tree;
