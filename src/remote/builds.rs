//! The lists of a workspace's last builds, by which `kache sync` finds the results that a build needs.
//!
//! The store has a list with its own actions, and each remote has one with actions and queries in its digest
//! function. A build only adds to the results of the build before it of the same kind, because cargo asks for
//! nothing that its target directory has.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kache_cas::digest::ActionMessage;
use kache_cas::encoding::{EncodingError, encode_action, encode_command, wire_digest};
use kache_cas::{ActionCache, Content, Digest, DigestFunction, Hash, Store, StoreError};
use kache_proto::Message as _;
use kache_proto::reapi::{Action, Command};
use kache_proto::upload::{Build, BuildResult, Builds};
use kache_remote::{Remote, RemoteError, RequestContext};

use super::blocking::with_store;
use super::handle::RemoteHandle;
use super::note::{read_note, write_note};
use super::record;
use super::upload::{ActionMessages, UploadError};
use crate::lookup::{read_record, write_record};

/// The purpose of the store's lists, with the version of their format.
const PURPOSE: &str = "kache builds 1";

/// The type of a remote's lists.
const BUILDS_TYPE: &str = "type.googleapis.com/kache.Builds";

/// The most builds in a list. The oldest one goes first.
const BUILDS_MAX: usize = 16;

/// The most results of a build; as many as a build session remembers.
const RESULTS_MAX: usize = 10_000;

/// A result that no build has used for so many days is left out.
const DAYS_MAX: u32 = 30;

/// The packages of a workspace, by which its builds are found in other checkouts and on other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceName {
    /// The names of the packages, sorted.
    members: Vec<String>,
}

impl WorkspaceName {
    /// Names a workspace by its packages; `None` if it has none.
    pub fn new(mut members: Vec<String>) -> Option<WorkspaceName> {
        members.sort_unstable();
        members.dedup();
        (!members.is_empty()).then_some(WorkspaceName { members })
    }

    /// Returns the hash under which the store keeps the list.
    pub fn hash(&self) -> Hash {
        DigestFunction::Blake3.hash(self.members.join("\n").as_bytes())
    }
}

/// The results of a build that has ended: the unit's name and the hash of the store's action.
pub type UsedResults = BTreeMap<String, Hash>;

/// Adds a build to the store's list. `kind` is the digest of what cargo was asked to do.
pub fn note_build(
    actions: &dyn ActionCache,
    workspace: &WorkspaceName,
    kind: Hash,
    results: &UsedResults,
) -> Result<(), StoreError> {
    let today = today();
    let result = |(unit, action): (&String, &Hash)| BuildResult {
        unit: unit.clone(),
        used_day: today,
        action: Bytes::copy_from_slice(&action.0),
        ..BuildResult::default()
    };
    let kind = Bytes::copy_from_slice(&kind.0);
    let build = Build { kind, results: results.iter().map(result).collect() };
    let mut builds = read_own(actions, workspace.hash())?.unwrap_or_default();
    builds.members.clone_from(&workspace.members);
    add(&mut builds, build, today);
    write_record(actions, PURPOSE, &own_name(workspace.hash()), builds.encode_to_vec())
}

/// Returns the store's actions that the last builds of a workspace used, each of them once.
pub fn own_actions(actions: &dyn ActionCache, workspace: Hash) -> Result<Vec<Hash>, StoreError> {
    let builds = read_own(actions, workspace)?.unwrap_or_default();
    let results = builds.builds.iter().flat_map(|build| &build.results);
    let mut found: Vec<Hash> = results.filter_map(|result| hash(&result.action)).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The keys of a result on a remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultKeys {
    /// Under the query lie the path sets.
    pub query: Digest<ActionMessage>,
    /// Under the action lies the result.
    pub action: Digest<ActionMessage>,
}

/// Reads the results that a remote knows of a workspace's last builds, each of them once; none if it knows no
/// such build.
pub async fn read_results(
    remote: &dyn Remote,
    workspace: &WorkspaceName,
    function: DigestFunction,
) -> Result<Vec<ResultKeys>, RemoteError> {
    let Ok(name) = shared_name(&workspace.members, function) else { return Ok(Vec::new()) };
    let builds = read_builds(remote, &name.digest).await?;
    let results = builds.builds.iter().flat_map(|build| &build.results);
    let keys = |result: &BuildResult| {
        let query = Digest::new(function, hash(&result.query)?, result.query_bytes);
        Some(ResultKeys { query, action: Digest::new(function, hash(&result.action)?, result.action_bytes) })
    };
    let mut found: Vec<ResultKeys> = results.filter_map(keys).collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Adds the store's list of a workspace's builds to that of a remote.
pub(super) async fn upload(
    handle: &Arc<RemoteHandle>,
    store: &Arc<Store>,
    workspace: Hash,
) -> Result<(), UploadError> {
    let remote = &*handle.writer;
    let function = remote.capabilities().await?.function;
    let read = move |store: &Store| shared_builds(store.actions(), workspace, function);
    let Some(own) = with_store(store, read).await? else { return Ok(()) };
    let Ok(name) = shared_name(&own.members, function) else { return Ok(()) };
    let context = RequestContext::default();
    let before = read_builds(remote, &name.digest).await?;
    let mut after = before.clone();
    after.members.clone_from(&own.members);
    // The newest build is added last, so that it is the first one of the list.
    for build in own.builds.into_iter().rev() {
        add(&mut after, build, today());
    }
    if after == before {
        return Ok(());
    }
    let messages = name.blobs().map(|(digest, bytes)| (digest, Content::Memory(bytes)));
    for outcome in remote.write(&messages, &context).await {
        outcome?;
    }
    let bytes = Bytes::from(after.encode_to_vec());
    Ok(write_note(remote, &name.digest, BUILDS_TYPE, bytes, &context).await?)
}

/// Returns the store's list with the keys of a remote's function. Results without such keys are left out.
fn shared_builds(
    actions: &dyn ActionCache,
    workspace: Hash,
    function: DigestFunction,
) -> Result<Option<Builds>, StoreError> {
    let Some(mut builds) = read_own(actions, workspace)? else { return Ok(None) };
    for build in &mut builds.builds {
        let mut results = Vec::with_capacity(build.results.len());
        for result in std::mem::take(&mut build.results) {
            let Some(own) = hash(&result.action) else { continue };
            let Some(upload) = record::load(actions, &record::own_action(own), function)? else { continue };
            let (query, action) = (upload.query.digest, upload.action.digest);
            results.push(BuildResult {
                action: Bytes::copy_from_slice(&action.hash.0),
                action_bytes: action.size_bytes,
                query: Bytes::copy_from_slice(&query.hash.0),
                query_bytes: query.size_bytes,
                ..result
            });
        }
        build.results = results;
    }
    Ok(Some(builds))
}

async fn read_builds(remote: &dyn Remote, name: &Digest<ActionMessage>) -> Result<Builds, RemoteError> {
    let note = read_note(remote, name, BUILDS_TYPE, &RequestContext::default()).await?;
    Ok(note.and_then(|bytes| Builds::decode(bytes).ok()).unwrap_or_default())
}

fn read_own(actions: &dyn ActionCache, workspace: Hash) -> Result<Option<Builds>, StoreError> {
    let record = read_record(actions, PURPOSE, &own_name(workspace))?;
    Ok(record.and_then(|bytes| Builds::decode(bytes).ok()))
}

fn own_name(workspace: Hash) -> Digest<ActionMessage> {
    Digest::new(DigestFunction::Blake3, workspace, 0)
}

/// Makes the action under which a remote keeps the list. Nobody can execute it, so its command says what it is.
fn shared_name(members: &[String], function: DigestFunction) -> Result<ActionMessages, EncodingError> {
    let words = ["kache", "builds", "1"].map(str::to_owned);
    let arguments = words.into_iter().chain(members.iter().cloned()).collect();
    let command = encode_command(function, Command { arguments, ..Command::default() })?;
    let action = Action {
        command_digest: Some(wire_digest(&command.digest())),
        input_root_digest: Some(wire_digest(&Digest::<()>::empty(function))),
        ..Action::default()
    };
    let action = encode_action(function, action)?;
    Ok(ActionMessages {
        digest: action.digest(),
        action: action.bytes().clone(),
        command: (command.digest().coerce(), command.bytes().clone()),
    })
}

/// Puts a build in front of a list. It takes the place of the one of the same kind, and takes over the results
/// of that one that it has no newer ones for.
fn add(builds: &mut Builds, mut build: Build, today: u32) {
    let of_its_kind = builds.builds.iter().position(|other| other.kind == build.kind);
    let before = of_its_kind.map(|index| builds.builds.remove(index).results).unwrap_or_default();
    let mut newest: HashMap<String, BuildResult> = HashMap::new();
    for result in before.into_iter().chain(std::mem::take(&mut build.results)) {
        match newest.get(&result.unit) {
            Some(other) if other.used_day > result.used_day => {}
            _ => drop(newest.insert(result.unit.clone(), result)),
        }
    }
    build.results = newest.into_values().collect();
    build.results.retain(|result| today.saturating_sub(result.used_day) <= DAYS_MAX);
    build.results.sort_by(|a, b| b.used_day.cmp(&a.used_day).then_with(|| a.unit.cmp(&b.unit)));
    build.results.truncate(RESULTS_MAX);
    builds.builds.insert(0, build);
    builds.builds.truncate(BUILDS_MAX);
}

fn today() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(seconds / (24 * 60 * 60)).unwrap_or(u32::MAX)
}

fn hash(bytes: &Bytes) -> Option<Hash> {
    Some(Hash(bytes[..].try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(kind: u8, units: &[(&str, u8, u32)]) -> Build {
        let result = |(unit, action, used_day): &(&str, u8, u32)| BuildResult {
            unit: (*unit).to_owned(),
            used_day: *used_day,
            action: vec![*action; 32].into(),
            ..BuildResult::default()
        };
        Build { kind: vec![kind].into(), results: units.iter().map(result).collect() }
    }

    fn units(build: &Build) -> Vec<(&str, u8)> {
        build.results.iter().map(|result| (&*result.unit, result.action[0])).collect()
    }

    #[test]
    fn a_build_takes_over_what_cargo_did_not_ask_for_again() {
        let mut builds = Builds::default();
        add(&mut builds, build(1, &[("a", 1, 100), ("b", 1, 100), ("old", 1, 60)]), 100);
        add(&mut builds, build(2, &[("a", 9, 100)]), 100);
        add(&mut builds, build(1, &[("b", 2, 101)]), 101);
        assert_eq!(builds.builds.iter().map(|build| build.kind[0]).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(units(&builds.builds[0]), [("b", 2), ("a", 1)]);
        // The list of another machine may have newer results.
        add(&mut builds, build(1, &[("b", 3, 99)]), 101);
        assert_eq!(units(&builds.builds[0]), [("b", 2), ("a", 1)]);
        for kind in 10..40 {
            add(&mut builds, build(kind, &[]), 101);
        }
        assert_eq!((builds.builds.len(), builds.builds[0].kind[0]), (BUILDS_MAX, 39));
    }

    #[test]
    fn a_workspace_is_named_by_its_packages_in_any_order() {
        let name =
            |members: &[&str]| WorkspaceName::new(members.iter().map(|one| (*one).to_owned()).collect());
        assert_eq!(name(&["a", "b"]).unwrap().hash(), name(&["b", "a", "a"]).unwrap().hash());
        assert_ne!(name(&["a", "b"]).unwrap().hash(), name(&["a"]).unwrap().hash());
        assert_eq!(name(&[]), None);
    }
}
