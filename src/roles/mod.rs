//! Paths by role: a file is named by the directory of a build that it is in and the rest of its path, so that
//! the name is the same for every checkout.
//!
//! Pure: nothing here reads a file or follows a link.

mod path;
mod path_names;
mod remap;
mod roots;
mod stand_in;
mod system;

pub use path::{Role, RolePath};
pub use path_names::PathNames;
pub use remap::Remap;
pub use roots::{Root, Roots, normalise};
pub use stand_in::{Form, STAND_IN_START};
pub use system::{COMMON, Listed, SYSTEM, is_common};
