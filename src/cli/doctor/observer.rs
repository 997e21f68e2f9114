//! Checks whether compilers can be observed on this system. The check writes no file.

use super::finding::{DoctorFinding, Severity};
use crate::config::Settings;
use crate::observer;

const SUBJECT: &str = "observer";

pub(super) fn check(settings: &Settings) -> DoctorFinding {
    match observer::check(settings.address.cache_dir()) {
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
