//! Puts the remotes of files and the variables of a call together. Pure.
//!
//! `KACHE_REMOTE` replaces the remotes of files. The other variables change the first remote only, so that a
//! credential in a variable goes to one server. Without any remote nothing is allocated.

use std::ffi::OsStr;

use kache_remote::Secret;

use super::entry::RemoteEntry;
use crate::config::env_vars::{
    HOME, KACHE_LOCAL_ONLY, KACHE_REMOTE, KACHE_REMOTE_ALLOW_CLEARTEXT_CREDENTIALS, KACHE_REMOTE_CA,
    KACHE_REMOTE_CERT, KACHE_REMOTE_HEADER, KACHE_REMOTE_INSTANCE, KACHE_REMOTE_KEY, KACHE_REMOTE_READONLY,
    KACHE_S3_ACCESS_KEY, KACHE_S3_BUCKET, KACHE_S3_ENDPOINT, KACHE_S3_PREFIX, KACHE_S3_PROFILE,
    KACHE_S3_REGION, KACHE_S3_SECRET_KEY, PATH, Variable,
};
use crate::config::environment::Environment;
use crate::config::load::Origin;
use crate::config::value::{Value, ValueKind};

/// The remotes of a call as they are described.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Remotes {
    /// The remotes, in the order in which they are asked.
    pub(in crate::config) entries: Vec<RemoteEntry>,
    /// The problems of variables that belong to no single remote.
    pub(super) problems: Vec<String>,
    /// Whether no remote is written to.
    pub(super) is_read_only: bool,
    /// `HOME` and the variables of AWS's tools; empty if there is no remote.
    pub(super) aws: Vec<(String, Secret)>,
    /// `PATH`, if a remote has a `token_command`.
    pub(super) path: Option<(String, Secret)>,
    /// The names of variables that a remote depends on and that are set.
    set_names: Vec<String>,
}

/// Combines the remotes of the user's file with the variables.
pub(in crate::config) fn combine(of_files: Vec<RemoteEntry>, environment: &Environment) -> Remotes {
    let mut remotes = Remotes::default();
    if remotes.flag(environment, KACHE_LOCAL_ONLY) {
        return remotes;
    }
    remotes.entries = of_files;
    // In a file, the short form comes first.
    remotes.entries.sort_by_key(|entry| !entry.is_short);
    if let Some(url) = environment.get(KACHE_REMOTE) {
        let mut entry = RemoteEntry::new(Origin::Variable(KACHE_REMOTE.name));
        match url.to_str() {
            Some(url) => entry.url = Some(Secret::new(url)),
            None => entry.problem = Some(not_utf8(KACHE_REMOTE)),
        }
        remotes.entries = vec![entry];
    } else if environment.get(KACHE_S3_BUCKET).is_some() && !has_bucket(&remotes.entries) {
        remotes.entries.retain(|entry| !entry.is_short);
        let entry =
            RemoteEntry { is_short: true, ..RemoteEntry::new(Origin::Variable(KACHE_S3_BUCKET.name)) };
        remotes.entries.insert(0, entry);
    }
    if remotes.entries.is_empty() {
        return remotes;
    }
    remotes.first_of_variables(environment);
    remotes.is_read_only = remotes.flag(environment, KACHE_REMOTE_READONLY);
    let pair = |(name, value): (&str, &OsStr)| Some((name.to_owned(), Secret::new(value.to_str()?)));
    remotes.aws = environment.of_aws().filter_map(pair).collect();
    if environment.get(HOME).is_none()
        && let Some(home) = environment.xdg_dirs().home
    {
        remotes.aws.extend(pair((HOME.name, home.as_os_str())));
    }
    remotes.path = environment.get(PATH).and_then(|path| pair((PATH.name, path)));
    let names = remotes.entries.iter().flat_map(RemoteEntry::variables);
    remotes.set_names = names.filter(|name| environment.is_set(name)).map(str::to_owned).collect();
    remotes
}

/// Whether the short form describes a bucket, whose parts variables may replace one by one.
fn has_bucket(entries: &[RemoteEntry]) -> bool {
    entries.first().is_some_and(|entry| entry.is_short && entry.url.is_none())
}

fn not_utf8(variable: Variable) -> String {
    format!("the value of {} is not UTF-8", variable.name)
}

impl Remotes {
    /// Whether one of these variables is set for this call.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set_names.iter().any(|other| other == name)
    }

    /// Reads a variable that can only make kache do less, so that one which cannot be understood counts.
    fn flag(&mut self, environment: &Environment, variable: Variable) -> bool {
        let Some(text) = environment.get(variable) else { return false };
        match text.to_str().and_then(|text| ValueKind::Bool.read(text)) {
            Some(value) => value == Value::Bool(true),
            None => {
                let problem = format!("{} is neither `1` nor `0`, and counts as `1`", variable.name);
                self.problems.push(problem);
                true
            }
        }
    }

    /// Sets what variables say of the first remote.
    fn first_of_variables(&mut self, environment: &Environment) {
        let entry = &mut self.entries[0];
        let mut problem = None;
        let mut text = |variable: Variable| {
            let text = environment.get(variable)?.to_str();
            if text.is_none() {
                problem = Some(not_utf8(variable));
            }
            text.map(str::to_owned)
        };
        let mut set = |slot: &mut Option<String>, variable| {
            if let Some(text) = text(variable) {
                *slot = Some(text);
            }
        };
        set(&mut entry.instance, KACHE_REMOTE_INSTANCE);
        set(&mut entry.region, KACHE_S3_REGION);
        set(&mut entry.profile, KACHE_S3_PROFILE);
        set(&mut entry.access_key, KACHE_S3_ACCESS_KEY);
        if entry.url.is_none() {
            set(&mut entry.bucket, KACHE_S3_BUCKET);
            set(&mut entry.prefix, KACHE_S3_PREFIX);
        }
        if let Some(endpoint) = text(KACHE_S3_ENDPOINT) {
            entry.endpoint = Some(Secret::new(endpoint));
        }
        entry.secret_key = text(KACHE_S3_SECRET_KEY).map(Secret::new);
        let headers = text(KACHE_REMOTE_HEADER);
        for (slot, variable) in [
            (&mut entry.ca, KACHE_REMOTE_CA),
            (&mut entry.cert, KACHE_REMOTE_CERT),
            (&mut entry.key, KACHE_REMOTE_KEY),
        ] {
            if let Some(path) = environment.get(variable) {
                *slot = Some(path.into());
            }
        }
        let allows = environment.get(KACHE_REMOTE_ALLOW_CLEARTEXT_CREDENTIALS).and_then(|text| text.to_str());
        if let Some(allows) = allows {
            // What cannot be understood allows nothing.
            entry.allow_cleartext_credentials = ValueKind::Bool.read(allows) == Some(Value::Bool(true));
        }
        if problem.is_some() {
            entry.problem = problem;
        }
        if let Some(headers) = headers {
            entry.add_headers(&headers);
        }
    }
}

impl RemoteEntry {
    /// Adds headers of the form `NAME=VALUE`, one a line. They replace those of the same name in a file.
    fn add_headers(&mut self, text: &str) {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut headers = Vec::new();
        for line in lines {
            let Some((name, value)) = line.split_once('=') else {
                // The line may be a secret as a whole.
                let name = KACHE_REMOTE_HEADER.name;
                self.problem = Some(format!("{name} has a line that is not of the form `NAME=VALUE`"));
                return;
            };
            headers.push((name.trim().to_owned(), Secret::new(value.trim())));
        }
        let is_replaced = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        self.headers.retain(|(name, _)| !is_replaced(name));
        self.headers.append(&mut headers);
    }
}
