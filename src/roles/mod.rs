//! Roles instead of paths: where a file stands in a build, apart from where the build lies.

mod path;
mod places;
mod remap;
mod roots;
mod stand_in;
mod system;

pub use path::{Role, RolePath};
pub use places::Places;
pub use remap::Remap;
pub use roots::{Root, Roots, normalise};
pub use stand_in::Form;
pub use system::{COMMON, Listed, SYSTEM, is_common};
