//! Who we are.
//!
//! The effective user decides everywhere: it is whose files we create.

use std::path::PathBuf;

/// The effective user's id.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// This user's home by the user database, for where `HOME` is not set.
pub fn home_dir() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??;
    user.dir.is_absolute().then_some(user.dir)
}

/// Whether a file of this owner may tell us what to do: our own and root's may. Root takes
/// everybody's, since in a container it builds sources that belong to someone outside.
pub fn is_trusted_owner(owner_uid: u32) -> bool {
    let own = own_uid();
    own == 0 || owner_uid == own || owner_uid == 0
}
