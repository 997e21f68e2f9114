//! Roles instead of paths: where a file stands in a build, apart from where the build lies.

mod path;
mod remap;
mod roots;
mod stand_in;

pub use path::{Role, RolePath};
pub use remap::Remap;
pub use roots::{Root, Roots, normalise};
pub use stand_in::Form;
