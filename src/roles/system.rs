//! Directories that do not belong to a checkout: the system's own, and those that everybody's
//! directories lie in.
//!
//! Pure. Two lists with reasons, which `docs/cache-key.md` prints.

use std::path::Path;

/// A directory with the reason for its being in a list.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The directory.
    pub dir: &'static str,
    /// Why it is in the list.
    pub why: &'static str,
}

const fn listed(dir: &'static str, why: &'static str) -> Listed {
    Listed { dir, why }
}

const PROGRAMS: &str = "the system's programs: the same path is meant in every checkout";
const LIBRARIES: &str = "the system's libraries, and the programs and data that belong to them";
const LOCAL: &str = "what this machine's administrator installed beside the system's own";
const STORE: &str = "a name in it tells its content";

/// Directories in which an absolute path means the same place for every checkout on this machine.
/// They lie at fixed places, are written by administrators and package managers, and are reached
/// by their own names. `/usr` itself, `/usr/src`, `/home`, `/tmp`, `/srv`, `/mnt`, `/var` and their
/// like are not among them: checkouts and their neighbours lie there.
pub const SYSTEM: &[Listed] = &[
    listed("/bin", PROGRAMS),
    listed("/sbin", PROGRAMS),
    listed("/usr/bin", PROGRAMS),
    listed("/usr/sbin", PROGRAMS),
    listed("/lib", LIBRARIES),
    listed("/lib32", LIBRARIES),
    listed("/lib64", LIBRARIES),
    listed("/libx32", LIBRARIES),
    listed("/usr/lib", LIBRARIES),
    listed("/usr/lib32", LIBRARIES),
    listed("/usr/lib64", LIBRARIES),
    listed("/usr/libx32", LIBRARIES),
    listed("/usr/libexec", LIBRARIES),
    listed("/usr/include", "the system's headers"),
    listed("/usr/share", "the system's data"),
    listed("/etc", "the system's configuration"),
    listed("/run/current-system", "NixOS's links to the system that runs"),
    listed("/var/lib", "the state of the system's programs, such as package managers' links"),
    listed("/usr/local/bin", LOCAL),
    listed("/usr/local/sbin", LOCAL),
    listed("/usr/local/lib", LOCAL),
    listed("/usr/local/lib64", LOCAL),
    listed("/usr/local/libexec", LOCAL),
    listed("/usr/local/include", LOCAL),
    listed("/usr/local/share", LOCAL),
    listed("/usr/local/etc", LOCAL),
    listed("/opt", LOCAL),
    listed("/snap", LOCAL),
    listed("/nix/store", STORE),
    listed("/gnu/store", STORE),
    listed("/System", "macOS's own programs and libraries"),
    listed("/Library", "macOS's developer tools and frameworks"),
    listed("/Applications", "Xcode and what belongs to it"),
];

/// Directories that are common property: they are there on every machine of their kind, and
/// everybody's directories lie in them. An output that holds the name of one says nothing of the
/// place in which it was made.
pub const COMMON: &[Listed] = &[
    listed("/", "the root of the file system"),
    listed("/home", "home directories"),
    listed("/Users", "home directories on macOS"),
    listed("/root", "the home directory of every root user"),
    listed("/tmp", "temporary files"),
    listed("/private", "where macOS keeps what `/tmp` and `/var` lead to"),
    listed("/private/tmp", "temporary files on macOS"),
    listed("/private/var", "variable files on macOS"),
    listed("/private/var/folders", "temporary files of users on macOS"),
    listed("/var", "variable files"),
    listed("/var/tmp", "temporary files"),
    listed("/var/lib", "the state of programs; services have their checkouts there"),
    listed("/dev", "the kernel's devices"),
    listed("/dev/shm", "shared memory"),
    listed("/usr", "the system"),
    listed("/usr/src", "sources"),
    listed("/usr/local", "what was installed by hand"),
    listed("/opt", "what was installed beside the system"),
    listed("/srv", "what services serve"),
    listed("/mnt", "volumes"),
    listed("/media", "volumes"),
    listed("/run", "what is mounted and runs"),
    listed("/run/media", "volumes"),
    listed("/run/user", "users' own directories while they are logged in"),
    listed("/Volumes", "volumes on macOS"),
];

/// The directory of [`SYSTEM`] that a path lies in or is. The path is in normal form.
pub(super) fn system_dir(path: &Path) -> Option<&'static Path> {
    SYSTEM.iter().map(|listed| Path::new(listed.dir)).find(|dir| path.starts_with(dir))
}

/// Whether a directory is common property. The path is in normal form.
pub fn is_common(dir: &Path) -> bool {
    COMMON.iter().any(|listed| dir == Path::new(listed.dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_17_no_directory_in_which_checkouts_lie_is_the_systems() {
        for path in ["/usr/lib/x.so", "/etc/hosts", "/nix/store/abc-rust/bin/rustc", "/opt/cuda/lib"] {
            assert!(system_dir(Path::new(path)).is_some(), "{path}");
        }
        for path in ["/", "/usr", "/usr/src/app/x", "/usr/local/cargo", "/home/a/x", "/tmp/x", "/library/x"] {
            assert!(system_dir(Path::new(path)).is_none(), "{path}");
        }
        assert!(is_common(Path::new("/home")) && !is_common(Path::new("/home/a")));
    }
}
