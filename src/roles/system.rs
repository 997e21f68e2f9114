//! Directories that belong to no checkout: those of the system, and those that contain the directories of all
//! users.
//!
//! Pure. There are two lists with reasons, which `docs/cache-key.md` prints.

use std::path::Path;

/// A directory with the reason why it is in a list.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The absolute path of the directory.
    pub dir: &'static str,
    /// The reason why it is in the list.
    pub why: &'static str,
}

const fn listed(dir: &'static str, why: &'static str) -> Listed {
    Listed { dir, why }
}

const PROGRAMS: &str = "programs of the system; the path means the same file in every checkout";
const LIBRARIES: &str = "libraries of the system, with their programs and data";
const LOCAL: &str = "software that the administrator installed";
const STORE: &str = "each name contains a hash of the content";

/// Directories of the system. An absolute path in them means the same file for every checkout on this
/// machine: they have fixed paths, administrators and package managers write them, and programs use their
/// absolute paths. `/usr` itself, `/usr/src`, `/home`, `/tmp`, `/srv`, `/mnt`, `/var` and similar directories
/// are not in the list, because they may contain checkouts.
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
    listed("/Applications", "Xcode and its tools"),
];

/// Common directories: every machine of a kind has them, and they contain the directories of all users. An
/// output that contains the name of one does not show where it was made.
pub const COMMON: &[Listed] = &[
    listed("/", "the root of the file system"),
    listed("/home", "home directories"),
    listed("/Users", "home directories on macOS"),
    listed("/root", "the home directory of every root user"),
    listed("/tmp", "temporary files"),
    listed("/private", "the targets of the links `/tmp` and `/var` on macOS"),
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
    listed("/usr/local", "software that the administrator installed by hand"),
    listed("/opt", "additional software"),
    listed("/srv", "data of services"),
    listed("/mnt", "volumes"),
    listed("/media", "volumes"),
    listed("/run", "data of running services, and mounts"),
    listed("/run/media", "volumes"),
    listed("/run/user", "users' own directories while they are logged in"),
    listed("/Volumes", "volumes on macOS"),
];

/// Returns the directory in [`SYSTEM`] that contains a path or is the path itself. The path must be in normal
/// form.
pub(super) fn system_dir(path: &Path) -> Option<&'static Path> {
    SYSTEM.iter().map(|listed| Path::new(listed.dir)).find(|dir| path.starts_with(dir))
}

/// Whether a directory is in [`COMMON`]. The path must be in normal form.
pub fn is_common(dir: &Path) -> bool {
    COMMON.iter().any(|listed| dir == Path::new(listed.dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_17_no_directory_with_checkouts_is_a_directory_of_the_system() {
        for path in ["/usr/lib/x.so", "/etc/hosts", "/nix/store/abc-rust/bin/rustc", "/opt/cuda/lib"] {
            assert!(system_dir(Path::new(path)).is_some(), "{path}");
        }
        for path in ["/", "/usr", "/usr/src/app/x", "/usr/local/cargo", "/home/a/x", "/tmp/x", "/library/x"] {
            assert!(system_dir(Path::new(path)).is_none(), "{path}");
        }
        assert!(is_common(Path::new("/home")) && !is_common(Path::new("/home/a")));
    }
}
