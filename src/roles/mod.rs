//! Roles instead of paths: where a file stands in a build, apart from where the build lies.

mod path;
mod roots;

pub use path::{Role, RolePath};
pub use roots::{Root, Roots};
