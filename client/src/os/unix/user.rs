//! The user of this process, and the limits of this process.
//!
//! The user is always the effective user, who owns the files that this process creates.

use std::path::PathBuf;

/// Returns the id of the effective user.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns the home directory of this user by the user database, for when `HOME` is not set.
pub fn home_dir() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??;
    user.dir.is_absolute().then_some(user.dir)
}

/// Returns whether a configuration file of this owner is obeyed: files of this user and of root are.
/// Root obeys those of every user, since in a container it builds sources that belong to a user
/// outside.
pub fn is_trusted_owner(owner_uid: u32) -> bool {
    let own = own_uid();
    own == 0 || owner_uid == own || owner_uid == 0
}

/// Raises the limit of open files as far as the system allows: a large store and a thousand clients
/// need more than the usual 1,024. Errors are ignored.
pub fn raise_open_files_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a valid `rlimit` that outlives them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            // macOS reports a limit that it then refuses.
            limit.rlim_cur = limit.rlim_max.min(OPEN_FILES_WANTED);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Descriptors for the largest store and the most connections, with room to spare.
const OPEN_FILES_WANTED: libc::rlim_t = 65_536;

/// Limits the number of heaps, and so the memory that they keep unused. glibc gives contending
/// threads heaps of their own, up to eight a processor, and each heap keeps the most that it ever
/// needed: with a million results and 16 threads reading, 296 MB instead of 159. With other C
/// libraries this does nothing.
pub fn limit_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes two numbers and may be made at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
    }
}

/// The number of heaps, which is enough for the rate at which the daemon allocates.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS_MAX: libc::c_int = 2;
