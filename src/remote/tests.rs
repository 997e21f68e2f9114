//! Results that go to a remote in memory and come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::encoding::{encode_action, encode_command, wire_digest};
use kache_cas::{Digest, DigestFunction, Store, StoreError, StoreSettings};
use kache_proto::reapi::{
    Action, ActionResult, Command, Digest as WireDigest, OutputDirectory, OutputFile, OutputSymlink,
};
use kache_remote::memory::MemoryRemote;
use kache_remote::{Remote as _, RemoteError, RequestContext};
use tempfile::TempDir;

use super::AskedRemote;
use super::builds::{self, ResultKeys, WorkspaceName};
use super::download::{DownloadError, download};
use super::failure::{FailureCause, TransferFailure};
use super::handle::{AnswerLimits, RemoteConnections, RemoteHandle, RemoteUses};
use super::queue::{UploadItem, UploadQueue, upload_queue};
use super::record;
use super::result::{UnusableResult, check, to_shared};
use super::upload::{ActionMessages, Upload, UploadError, UploadInputs, UploadOutcome, upload};
use crate::action::{FullAction, PathSet, Task};
use crate::lookup::{Disagreement, quarantine};
use crate::publish::testing::House;
use crate::remote::DamagedBlobs;

pub(super) const SHA256: DigestFunction = DigestFunction::Sha256;
const BLAKE3: DigestFunction = DigestFunction::Blake3;

/// The paths of the outputs of [`task`] with their contents: one in the store's database, one in a file.
pub(super) fn contents() -> [(&'static str, Bytes); 3] {
    [
        ("out/debug/deps/x-1.d", Bytes::from_static(b"a: b")),
        ("out/debug/deps/libx-1.rmeta", Bytes::from(vec![1; 9_000])),
        ("out/debug/deps/libx-1.rlib", Bytes::from(vec![2; 5 << 20])),
    ]
}

pub(super) fn task() -> Task {
    House::new().checkout("a").task()
}

pub(super) fn store() -> (TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(StoreSettings::new(dir.path().join("store"))).unwrap();
    (dir, Arc::new(store))
}

fn file(path: &str, digest: &Digest) -> OutputFile {
    OutputFile { path: path.to_owned(), digest: Some(wire_digest(digest)), ..Default::default() }
}

/// A result as this machine stores it, with its blobs in `store`.
fn stored_result(store: &Store) -> ActionResult {
    let mut result = ActionResult { stderr_raw: Bytes::from_static(b"warning"), ..Default::default() };
    for (path, bytes) in contents() {
        let digest = Digest::of(BLAKE3, &bytes);
        store.blobs().insert(&[(digest, bytes)]).into_iter().collect::<Result<(), _>>().unwrap();
        result.output_files.push(file(path, &digest));
    }
    result
}

fn full_action(name: &str, function: DigestFunction) -> FullAction {
    let command = Command { arguments: vec![name.to_owned()], ..Default::default() };
    let command = encode_command(function, command).unwrap();
    let action = Action {
        command_digest: Some(wire_digest(&command.digest())),
        input_root_digest: Some(wire_digest(&Digest::<()>::empty(function))),
        ..Default::default()
    };
    let action = encode_action(function, action).unwrap();
    FullAction { digest: action.digest(), action, command, directories: Vec::new(), files: Vec::new() }
}

pub(super) fn an_upload(store: &Store, function: DigestFunction) -> Upload {
    let twins: BTreeMap<Digest, Digest> = contents()
        .iter()
        .map(|(_, bytes)| (Digest::of(BLAKE3, bytes), Digest::of(function, bytes)))
        .collect();
    let notes = Bytes::from_static(b"notes");
    let result = stored_result(store);
    let shared = to_shared(&result, Some(&notes), function, &|digest| twins.get(digest).copied()).unwrap();
    Upload {
        name: "x".to_owned(),
        invocation_id: "a-build".to_owned(),
        mnemonic: "Rustc".into(),
        query: ActionMessages::from(&full_action("query", function)),
        action: ActionMessages::from(&full_action("action", function)),
        path_set: PathSet::default(),
        shared,
        unstable: vec!["out/debug/deps/x-1.d".to_owned()],
        is_leaf: false,
        inputs: None,
    }
}

#[tokio::test]
async fn net_02_a_result_comes_back_as_it_was_stored() {
    for function in DigestFunction::ALL {
        let remote = Arc::new(MemoryRemote::new(function));
        let (_here, here) = store();
        let sent = an_upload(&here, function);
        assert_eq!(
            upload(&*remote, &here, &sent, &DamagedBlobs::default()).await.unwrap(),
            UploadOutcome::Uploaded
        );
        assert_eq!(
            upload(&*remote, &here, &sent, &DamagedBlobs::default()).await.unwrap(),
            UploadOutcome::WasThere
        );

        let (_there, there) = store();
        let context = RequestContext::default();
        let result = remote.get_result(&sent.action.digest, &context).await.unwrap().unwrap();
        let checked = check(&task(), &result, function).unwrap();
        assert_eq!(checked.notes.as_deref(), Some(&b"notes"[..]));
        remote.take_requests();
        let names = download(&asked(&remote), &there, &checked, &context).await.unwrap();
        assert_eq!(remote.take_requests(), ["read_small", "read"], "many small ones with one request");
        let own = |digest: &Digest| names.get(digest)?.digest(BLAKE3);
        let message = |_: &Digest| Some(Bytes::from_static(b"warning"));
        let local = checked.to_stored(&own, &message).unwrap();
        let expected = stored_result(&there);
        assert_eq!(local.output_files, expected.output_files);
        assert_eq!(local.stderr_raw, expected.stderr_raw);
        download(&asked(&remote), &there, &checked, &context).await.unwrap();
        assert_eq!(remote.take_requests(), [""; 0], "everything is in the store");
    }
}

#[tokio::test]
async fn net_05_blobs_come_first_and_then_the_result_and_the_path_set() {
    let remote = MemoryRemote::new(SHA256);
    let (_dir, store) = store();
    let sent = an_upload(&store, SHA256);
    upload(&remote, &store, &sent, &DamagedBlobs::default()).await.unwrap();
    let requests = remote.take_requests();
    let first_result = requests.iter().position(|one| *one == "put_result").unwrap();
    let last_blob = requests.iter().rposition(|one| *one == "write").unwrap();
    assert!(last_blob < first_result, "{requests:?}");
    let results = remote.results();
    assert_eq!(results.len(), 2);
    for (action, result) in results {
        assert!(remote.blobs().contains(&action.coerce()), "the action lies there, too");
        assert!(result.stdout_raw.is_empty() && result.stderr_raw.is_empty());
        assert!(!result.execution_metadata.unwrap().worker.is_empty());
    }
}

#[tokio::test]
async fn net_05_no_result_is_written_if_a_blob_was_not_confirmed() {
    let remote = MemoryRemote::new(SHA256);
    let (_dir, store) = store();
    let mut sent = an_upload(&store, SHA256);
    let gone: Digest = Digest::of(BLAKE3, b"evicted");
    sent.shared.stored.push((Digest::of(SHA256, b"evicted"), gone));
    let failed = upload(&remote, &store, &sent, &DamagedBlobs::default()).await;
    assert!(matches!(failed, Err(UploadError::Gone(blob)) if blob == gone), "{failed:?}");
    assert_eq!(remote.results(), []);
}

#[tokio::test]
async fn a_result_with_other_outputs_stays_and_one_with_a_lost_blob_is_repaired() {
    let remote = MemoryRemote::new(SHA256);
    let (_dir, store) = store();
    let sent = an_upload(&store, SHA256);
    upload(&remote, &store, &sent, &DamagedBlobs::default()).await.unwrap();
    // The server has lost a blob that the upload would not look for, because it names another dep-info.
    let lost: Digest = Digest::of(SHA256, b"another dep-info");
    let context = RequestContext::default();
    let mut other = sent.shared.result.clone();
    other.output_files[0].digest = Some(wire_digest(&lost));
    remote.put_result(&sent.action.digest, &other, &context).await.unwrap();
    assert_eq!(
        upload(&remote, &store, &sent, &DamagedBlobs::default()).await.unwrap(),
        UploadOutcome::Uploaded
    );
    other.output_files[1].digest = Some(wire_digest(&lost));
    remote.put_result(&sent.action.digest, &other, &context).await.unwrap();
    assert_eq!(
        upload(&remote, &store, &sent, &DamagedBlobs::default()).await.unwrap(),
        UploadOutcome::Differs("out/debug/deps/libx-1.rmeta".to_owned())
    );
    let now = remote.get_result(&sent.action.digest, &context).await.unwrap();
    assert_eq!(now, Some(other));
}

#[tokio::test]
async fn net_02_bytes_that_are_not_those_of_their_digest_do_not_come_into_the_store() {
    let (_here, here) = store();
    let context = RequestContext::default();
    for (path, bytes) in contents() {
        let remote = Arc::new(MemoryRemote::new(SHA256));
        let sent = an_upload(&here, SHA256);
        upload(&*remote, &here, &sent, &DamagedBlobs::default()).await.unwrap();
        let digest = Digest::of(SHA256, &bytes);
        let mut wrong = bytes.to_vec();
        wrong[0] ^= 1;
        remote.tamper(digest, Bytes::from(wrong));
        let (_there, there) = store();
        let checked = check(&task(), &sent.shared.result, SHA256).unwrap();
        let failed = download(&asked(&remote), &there, &checked, &context).await;
        let is_refused = matches!(
            failed,
            Err(DownloadError::Remote(RemoteError::Malformed { .. })
                | DownloadError::Store(StoreError::Mismatch { .. }))
        );
        assert!(is_refused, "{path}: {failed:?}");
        assert_eq!(there.blobs().names_of(&digest).unwrap(), None, "{path}");
        remote.forget(&digest);
        let failed = download(&asked(&remote), &there, &checked, &context).await;
        assert!(matches!(failed, Err(DownloadError::Missing(blob)) if blob == digest), "{failed:?}");
    }
}

/// A remote in memory with its handle.
pub(super) fn a_handle(remote: &Arc<MemoryRemote>) -> Arc<RemoteHandle> {
    let connections = RemoteConnections { reader: remote.clone(), writer: remote.clone() };
    RemoteHandle::new(connections, "r".to_owned(), RemoteUses::READ_WRITE, AnswerLimits::default())
}

/// A remote in memory as a call of a new build asks it.
fn asked(remote: &Arc<MemoryRemote>) -> AskedRemote {
    AskedRemote::new(&a_handle(remote), &Arc::default())
}

/// The queue of a cache directory, with a worker that uploads from this store.
fn a_queue(cache_dir: &Path, store: &Arc<Store>) -> (UploadQueue, tokio::task::JoinHandle<()>) {
    let (queue, worker) = upload_queue(cache_dir);
    let store = Arc::clone(store);
    (queue, tokio::spawn(worker.run(move || Some((Arc::clone(&store), ())))))
}

/// Waits until nothing waits for the remote.
async fn drained(queue: &UploadQueue, handle: &RemoteHandle) {
    while queue.count(handle) != Some(0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_upload_is_made_when_its_remote_answers_again() {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let handle = a_handle(&remote);
    let (cache, store) = store();
    let (queue, worker) = a_queue(cache.path(), &store);
    remote.fail_with(Some(RemoteError::unavailable("down")));
    let own_action = Digest::of(BLAKE3, b"action");
    queue.push(handle.note_upload(), &store, &an_upload(&store, SHA256), &own_action);
    while handle.trouble().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!((remote.results(), handle.uploads_waiting()), (Vec::new(), 1));
    remote.fail_with(None);
    tokio::time::pause();
    drained(&queue, &handle).await;
    assert_eq!((remote.results().len(), handle.uploads_waiting()), (2, 0));
    drop(queue);
    worker.await.unwrap();
}

#[tokio::test]
async fn net_04_uploads_outlive_the_daemon() {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let (cache, store) = store();
    let own_action = Digest::of(BLAKE3, b"action");
    {
        // The first daemon is killed before its worker runs.
        let (queue, _worker) = upload_queue(cache.path());
        queue.push(a_handle(&remote).note_upload(), &store, &an_upload(&store, SHA256), &own_action);
    }
    let handle = a_handle(&remote);
    let (queue, _) = a_queue(cache.path(), &store);
    let mut ends = queue.ends();
    queue.add_remote(&handle);
    drained(&queue, &handle).await;
    let end = ends.recv().await.unwrap();
    assert_eq!(end.item, UploadItem::Result { own_action: own_action.hash, function: SHA256 });
    assert_eq!((end.failure, remote.results().len()), (None, 2));
    // The next daemon finds nothing to do.
    remote.take_requests();
    let (queue, _) = a_queue(cache.path(), &store);
    queue.add_remote(&handle);
    drained(&queue, &handle).await;
    assert_eq!(remote.take_requests(), [""; 0]);
}

#[tokio::test]
async fn net_05_a_remote_that_refuses_is_not_asked_again_in_this_build() {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let handle = a_handle(&remote);
    let (cache, store) = store();
    let (queue, _) = a_queue(cache.path(), &store);
    remote.fail_with(Some(RemoteError::refused("read-only")));
    let mut ends = queue.ends();
    let push = |name: &[u8]| {
        queue.push(handle.note_upload(), &store, &an_upload(&store, SHA256), &Digest::of(BLAKE3, name));
    };
    for name in [b"1", b"2", b"3"] {
        push(name);
        let failure = ends.recv().await.unwrap().failure.unwrap();
        assert_eq!(failure, TransferFailure::new(FailureCause::Refused, "read-only"));
    }
    remote.take_requests();
    push(b"4");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((remote.take_requests(), queue.count(&handle)), (Vec::<&str>::new(), Some(4)));
    // The user gives kache other credentials and asks for the uploads.
    remote.fail_with(None);
    queue.resume(&handle);
    drained(&queue, &handle).await;
    assert_eq!(remote.results().len(), 2);
}

#[tokio::test]
async fn the_last_builds_of_a_workspace_are_found_on_another_machine() {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let handle = a_handle(&remote);
    let (cache, store) = store();
    let (queue, _) = a_queue(cache.path(), &store);
    let own_action = Digest::of(BLAKE3, b"action");
    let sent = an_upload(&store, SHA256);
    let workspace = WorkspaceName::new(vec!["x".to_owned()]).unwrap();
    // One result has a form for remotes, and another one was made before a remote was configured.
    let used = [("x-1".to_owned(), own_action.hash), ("y-2".to_owned(), BLAKE3.hash(b"other"))];
    builds::note_build(store.actions(), &workspace, BLAKE3.hash(b"build"), &used.into()).unwrap();
    queue.push(handle.note_upload(), &store, &sent, &own_action);
    queue.push_builds(handle.note_upload(), workspace.hash());
    drained(&queue, &handle).await;
    let requests = remote.take_requests();
    assert_eq!(requests.last(), Some(&"put_result"), "{requests:?}");
    let found = builds::read_results(&*remote, &workspace, SHA256).await.unwrap();
    let keys = ResultKeys { query: sent.query.digest, action: sent.action.digest };
    assert_eq!(found, [keys]);
    // The same list once more is no reason to write.
    queue.push_builds(handle.note_upload(), workspace.hash());
    drained(&queue, &handle).await;
    assert!(!remote.take_requests().contains(&"put_result"));
}

#[test]
fn the_form_for_remotes_is_read_as_it_was_written() {
    let (_dir, store) = store();
    for function in DigestFunction::ALL {
        let own_action = Digest::of(BLAKE3, b"action");
        assert_eq!(record::load(store.actions(), &own_action, function).unwrap(), None);
        let mut sent = an_upload(&store, function);
        sent.is_leaf = true;
        record::save(store.actions(), &own_action, &sent).unwrap();
        assert_eq!(record::load(store.actions(), &own_action, function).unwrap().as_ref(), Some(&sent));
        let source = (Digest::of(function, b"source"), Digest::of(BLAKE3, b"source"));
        let directory = (Digest::of(function, b"directory"), Bytes::from_static(b"directory"));
        sent.inputs = Some(UploadInputs { messages: vec![directory], stored: vec![source] });
        record::save(store.actions(), &own_action, &sent).unwrap();
        assert_eq!(record::load(store.actions(), &own_action, function).unwrap(), Some(sent));
    }
}

#[tokio::test]
async fn net_05_a_quarantined_action_is_not_uploaded() {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let handle = a_handle(&remote);
    let (cache, store) = store();
    let own_action = Digest::of(BLAKE3, b"action");
    let (queue, _) = a_queue(cache.path(), &store);
    remote.fail_with(Some(RemoteError::unavailable("down")));
    queue.push(handle.note_upload(), &store, &an_upload(&store, SHA256), &own_action);
    while handle.trouble().is_none() {
        tokio::task::yield_now().await;
    }
    // While the upload waits, `kache verify` finds that the action has two results.
    let disagreement = Disagreement { output: "x".to_owned(), bytes: None };
    quarantine(store.actions(), &own_action, &disagreement).unwrap();
    assert_eq!(record::load(store.actions(), &own_action, SHA256).unwrap(), None);
    remote.fail_with(None);
    tokio::time::pause();
    drained(&queue, &handle).await;
    assert_eq!(remote.results(), []);
}

#[test]
fn net_02_a_result_that_the_call_did_not_ask_for_is_no_hit() {
    let (_dir, store) = store();
    let good = an_upload(&store, SHA256).shared.result;
    let refused = |change: fn(&mut ActionResult)| {
        let mut result = good.clone();
        change(&mut result);
        check(&task(), &result, SHA256).unwrap_err()
    };
    assert_eq!(refused(|result| result.exit_code = 1), UnusableResult::ExitCode(1));
    assert_eq!(
        refused(|result| result.output_directories.push(OutputDirectory::default())),
        UnusableResult::Foreign("directories")
    );
    assert_eq!(
        refused(|result| result.output_symlinks.push(OutputSymlink::default())),
        UnusableResult::Foreign("links")
    );
    for path in ["/etc/passwd", "../x", "out/debug/deps/other", "out/debug/deps/../deps/x-1.d"] {
        let mut result = good.clone();
        result.output_files[0].path = path.to_owned();
        assert_eq!(check(&task(), &result, SHA256), Err(UnusableResult::Unexpected(path.to_owned())));
    }
    let twice = refused(|result| result.output_files.push(result.output_files[0].clone()));
    assert_eq!(twice, UnusableResult::Unexpected("out/debug/deps/x-1.d".to_owned()));
    let lacking = refused(|result| drop(result.output_files.pop()));
    assert_eq!(lacking, UnusableResult::Lacking("out/debug/deps/libx-1.rlib".to_owned()));
    for digest in [None, Some(WireDigest::default()), Some(WireDigest { size_bytes: -1, ..wire() })] {
        let mut result = good.clone();
        result.output_files[0].digest = digest;
        assert!(matches!(check(&task(), &result, SHA256), Err(UnusableResult::Digest(_))));
    }
    let long = WireDigest { size_bytes: 1 << 40, ..wire() };
    let mut result = good;
    result.stdout_digest = Some(long);
    assert_eq!(check(&task(), &result, SHA256), Err(UnusableResult::MessagesTooLong));
}

fn wire() -> WireDigest {
    wire_digest::<kache_cas::digest::Blob>(&Digest::of(SHA256, b"x"))
}

#[test]
fn failures_are_never_shared() {
    let failed = ActionResult { exit_code: 1, ..Default::default() };
    assert_eq!(to_shared(&failed, None, SHA256, &|digest| Some(*digest)), None);
}
