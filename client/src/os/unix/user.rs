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

/// Lets this process open as many files as the system allows it: a store of many blobs and a
/// thousand clients need more than the usual 1,024. Failing changes nothing.
pub fn raise_open_files_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a valid `rlimit` that outlives them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            // macOS names a limit that it then refuses; this many are enough everywhere.
            limit.rlim_cur = limit.rlim_max.min(OPEN_FILES_WANTED);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// Descriptors for the largest store and the most connections, with room to spare.
const OPEN_FILES_WANTED: libc::rlim_t = 65_536;

/// Keeps the heap's unused memory small. glibc gives every thread that contends a heap of its
/// own, up to eight a processor, and each keeps what it once needed: with a million results
/// and 16 threads reading, 296 MB instead of 159. Elsewhere it does nothing.
pub fn bound_heaps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes two numbers and may be made at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS_MAX);
    }
}

/// Two of them are enough for what the daemon allocates at a time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS_MAX: libc::c_int = 2;
