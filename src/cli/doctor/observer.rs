//! Whether compilers can be observed. Nothing is laid down to find out.

use super::finding::{Finding, State};
use crate::config::Settings;
use crate::observer;

const SUBJECT: &str = "observer";

pub(super) fn look(settings: &Settings) -> Finding {
    match observer::check(settings.address.cache_dir()) {
        Ok(()) => Finding::new(State::Good, SUBJECT, "files and variables that proc macros ask for are seen"),
        Err(why) => {
            let what = format!("files and variables that proc macros ask for are not seen: {why}");
            Finding::new(State::Note, SUBJECT, what)
                .hint("name them in a `kache.toml`: `extra_inputs`, `key_env_vars`")
        }
    }
}
