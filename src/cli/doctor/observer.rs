//! Checks whether compilers can be observed on this system. To try it, a program is started with its record
//! in a directory for temporary files, which is removed again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::finding::{DoctorFinding, Severity};
use crate::config::Settings;
use crate::observer;

const SUBJECT: &str = "observer";

pub(super) fn check(settings: &Settings) -> DoctorFinding {
    match observer::check(settings.address.cache_dir()) {
        // Where it cannot be tried here, the daemon's log says it of each compiler.
        Ok(()) if !sees_raw_calls().unwrap_or(true) => {
            let what = "kache sees the files and variables that proc macros read, except files that a macro\n\
                        reads by its own system calls, past the C library: to see those takes Linux 5.11\n\
                        on x86-64, glibc 2.34, and a container or sandbox that allows `prctl`";
            DoctorFinding::new(Severity::Note, SUBJECT, what)
                .hint("declare such files in the package's `kache.toml`: `extra_inputs`")
        }
        Ok(()) => {
            let what = "kache sees the files and variables that proc macros read";
            DoctorFinding::new(Severity::Good, SUBJECT, what)
        }
        Err(why) => {
            let what = format!("kache cannot see the files and variables that proc macros read: {why}");
            DoctorFinding::new(Severity::Note, SUBJECT, what)
                .hint("declare them in the package's `kache.toml`: `extra_inputs`, `key_env_vars`")
        }
    }
}

/// Returns whether kache sees system calls that a program like this one makes past the C library.
fn sees_raw_calls() -> io::Result<bool> {
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let dir = std::env::temp_dir().join(format!("kache-doctor-observer-{nonce:x}"));
    DirBuilder::new().mode(0o700).create(&dir)?;
    let sees = std::env::current_exe().and_then(|program| observer::sees_raw_calls(&dir, &program));
    // If this fails, some kilobytes stay in the directory for temporary files.
    let _ = fs::remove_dir_all(&dir);
    sees
}
