//! Tests of the remote that is a folder: the layout, many writers, and files that do not belong there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kache_cas::{Content, Digest, DigestFunction};
use kache_proto::Message as _;
use kache_proto::reapi::ActionResult;
use tokio_stream::StreamExt as _;

use crate::{DirRemote, Remote as _, RemoteError, RemoteOptions, RequestContext};

fn open(dir: &Path) -> DirRemote {
    let mut options = RemoteOptions::default();
    options.limits.stall = Duration::from_secs(20);
    DirRemote::new(dir, &options).unwrap()
}

fn context() -> RequestContext {
    RequestContext::default()
}

/// Names a blob by SHA-256.
fn named(bytes: &[u8]) -> (Digest, Content) {
    (Digest::of(DigestFunction::Sha256, bytes), Content::Memory(Bytes::copy_from_slice(bytes)))
}

/// Returns the path of a blob in the layout that other programs expect.
fn path(dir: &Path, digest: &Digest) -> PathBuf {
    let name = digest.hash.to_hex();
    dir.join("cas").join(&name[..2]).join(name)
}

async fn write(remote: &DirRemote, blobs: &[(Digest, Content)]) {
    for outcome in remote.write(blobs, &context()).await {
        outcome.unwrap();
    }
}

async fn read(remote: &DirRemote, digest: &Digest) -> Option<Vec<u8>> {
    let mut stream = remote.read(digest, &context()).await.unwrap()?;
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece.unwrap());
    }
    Some(whole)
}

/// Asserts that a blob is missing for every kind of request.
async fn assert_missing(remote: &DirRemote, digest: &Digest) {
    assert_eq!(remote.find_missing(&[*digest], &context()).await.unwrap(), [true]);
    assert_eq!(remote.read_small(&[*digest], &context()).await.unwrap(), [None]);
    assert!(read(remote, digest).await.is_none());
}

#[tokio::test]
async fn blobs_and_results_lie_where_other_programs_look() {
    let dir = tempfile::tempdir().unwrap();
    let remote = open(dir.path());
    assert_eq!(remote.capabilities().await.unwrap().function, DigestFunction::Sha256);
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    let blobs = [named(b""), named(b"small"), named(&large)];
    let digests = blobs.clone().map(|(digest, _)| digest);
    assert_eq!(remote.find_missing(&digests, &context()).await.unwrap(), [false, true, true]);
    write(&remote, &blobs).await;
    assert_eq!(remote.find_missing(&digests, &context()).await.unwrap(), [false; 3]);
    assert!(fs::read(path(dir.path(), &digests[2])).unwrap() == large);
    let found = remote.read_small(&digests, &context()).await.unwrap();
    assert_eq!(found[..2], [Some(Bytes::new()), Some(Bytes::from_static(b"small"))]);
    assert!(read(&remote, &digests[2]).await.unwrap() == large);
    assert!(read(&remote, &digests[0]).await.unwrap().is_empty());

    let action = Digest::of(DigestFunction::Sha256, b"an action");
    assert_eq!(remote.get_result(&action, &context()).await.unwrap(), None);
    let result = ActionResult { exit_code: 3, ..ActionResult::default() };
    remote.put_result(&action, &result, &context()).await.unwrap();
    assert_eq!(remote.get_result(&action, &context()).await.unwrap(), Some(result.clone()));
    let name = action.hash.to_hex();
    let file = dir.path().join("ac").join(&name[..2]).join(name);
    assert_eq!(fs::read(&file).unwrap(), result.encode_to_vec());
    fs::write(&file, b"no message at all").unwrap();
    let error = remote.get_result(&action, &context()).await.unwrap_err();
    assert!(matches!(error, RemoteError::Malformed { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_link_in_place_of_a_blob_is_not_followed_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(dir.path().join("cache")).unwrap();
    let remote = open(&dir.path().join("cache"));
    let (digest, content) = named(b"a secret");
    let file = path(&dir.path().join("cache"), &digest);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&elsewhere, b"a secret").unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_missing(&remote, &digest).await;
    write(&remote, &[(digest, content)]).await;
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(read(&remote, &digest).await.unwrap(), b"a secret");
}

#[tokio::test]
async fn a_link_in_place_of_a_directory_is_refused() {
    for link in ["cas", "tmp"] {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), dir.path().join(link)).unwrap();
        let remote = open(dir.path());
        let blob = named(b"x");
        let outcome = remote.write(std::slice::from_ref(&blob), &context()).await.remove(0);
        assert!(matches!(outcome, Err(RemoteError::Refused { .. })), "{link}: {outcome:?}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{link}");
        if link == "cas" {
            let error = remote.find_missing(&[blob.0], &context()).await.unwrap_err();
            assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn what_is_no_whole_regular_file_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let remote = open(dir.path());
    let (digest, content) = named(&[7; 1000]);
    let file = path(dir.path(), &digest);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let pipe = || nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let make: [&dyn Fn(); 3] =
        [&|| fs::write(&file, [7; 999]).unwrap(), &|| fs::write(&file, [7; 1001]).unwrap(), &pipe];
    for make in make {
        make();
        assert_missing(&remote, &digest).await;
        write(&remote, &[(digest, content.clone())]).await;
        assert_eq!(fs::read(&file).unwrap(), [7; 1000]);
        fs::remove_file(&file).unwrap();
    }
    fs::create_dir(&file).unwrap();
    assert_missing(&remote, &digest).await;
    let outcome = remote.write(&[(digest, content)], &context()).await.remove(0);
    assert!(matches!(outcome, Err(RemoteError::Refused { .. })), "{outcome:?}");
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn other_bytes_of_the_same_length_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let remote = open(dir.path());
    let blob = named(b"right");
    write(&remote, std::slice::from_ref(&blob)).await;
    fs::write(path(dir.path(), &blob.0), b"wrong").unwrap();
    let error = remote.read_small(&[blob.0], &context()).await.unwrap_err();
    assert!(matches!(error, RemoteError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn many_writers_leave_whole_files() {
    let dir = tempfile::tempdir().unwrap();
    let blobs: Vec<_> = (0..20u8).map(|seed| named(&vec![seed; 200_000])).collect();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (remote, blobs) = (open(dir.path()), blobs.clone());
        writers.spawn(async move { write(&remote, &blobs).await });
    }
    writers.join_all().await;
    let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
    let found = open(dir.path()).read_small(&digests, &context()).await.unwrap();
    assert!(found.iter().all(Option::is_some));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_unavailable_and_not_created() {
    let dir = tempfile::tempdir().unwrap();
    let remote = open(&dir.path().join("mount"));
    let blob = named(b"x");
    let error = remote.find_missing(&[blob.0], &context()).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("no such folder"), "{error}");
    assert!(remote.write(&[blob], &context()).await.remove(0).unwrap_err().is_transient());
    assert!(!dir.path().join("mount").exists());
    assert!(DirRemote::new(Path::new("mount"), &RemoteOptions::default()).is_err());
}

#[tokio::test]
async fn digests_of_another_function_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let remote = open(dir.path());
    let digest = Digest::of(DigestFunction::Blake3, b"x");
    assert!(remote.find_missing(&[digest], &context()).await.is_err());
    assert!(remote.read_small(&[digest], &context()).await.is_err());
    let content = Content::Memory(Bytes::from_static(b"x"));
    assert!(remote.write(&[(digest, content)], &context()).await.remove(0).is_err());
}

#[tokio::test]
async fn a_folder_that_nobody_may_write_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let remote = open(dir.path());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let outcome = remote.write(&[named(b"x")], &context()).await.remove(0);
    // A user who may do everything is not stopped by a mode.
    let is_root = nix::unistd::Uid::effective().is_root();
    assert!(is_root || matches!(outcome, Err(RemoteError::Refused { .. })), "{outcome:?}");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
