//! Tests of the limit of a shared folder: what goes, what stays, and several machines at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_cas::{Content, Digest};
use kache_proto::reapi::{ActionResult, Digest as WireDigest, OutputFile};

use super::{context, sha256};
use crate::dir::Collected;
use crate::{DirRemote, Remote as _, RemoteOptions};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn open(dir: &Path, size_bytes_max: Option<u64>) -> DirRemote {
    let mut options = RemoteOptions { size_bytes_max, ..RemoteOptions::default() };
    options.limits.stall = Duration::from_secs(60);
    DirRemote::new(dir, &options).unwrap()
}

fn path(dir: &Path, space: &str, hash: &str) -> PathBuf {
    dir.join(space).join(&hash[..2]).join(hash)
}

/// Writes files of 1000 bytes, the first one the oldest, and returns their digests.
async fn filled(dir: &Path, count: u8) -> Vec<Digest> {
    let remote = open(dir, None);
    let mut digests = Vec::new();
    for seed in 0..count {
        let bytes = vec![seed; 1000];
        let digest = sha256(&bytes);
        remote.write(&[(digest, Content::Memory(bytes.into()))], &context()).await.remove(0).unwrap();
        set_age(&blob_path(dir, &digest), DAY * u32::from(count - seed));
        digests.push(digest);
    }
    digests
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    path(dir, "cas", &digest.hash.to_hex())
}

fn set_age(path: &Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

fn there(dir: &Path, digests: &[Digest]) -> Vec<bool> {
    digests.iter().map(|digest| blob_path(dir, digest).exists()).collect()
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_and_no_more_than_needed() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path(), 5).await;
    let remote = open(dir.path(), Some(3000));
    // A use makes the oldest the youngest.
    assert!(remote.read_small(&digests[..1], &context()).await.unwrap()[0].is_some());
    let collected = remote.collect().await;
    assert_eq!(collected, Some(Collected { bytes_before: 5000, bytes_removed: 2000 }));
    assert_eq!(there(dir.path(), &digests), [true, false, false, true, true]);
    assert_eq!(remote.collect().await, None, "a machine has just collected");
}

#[tokio::test]
async fn without_a_limit_only_leftovers_go() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path(), 2).await;
    for (name, age) in [("old", DAY), ("young", DAY / 2)] {
        let file = dir.path().join("tmp").join(name);
        fs::write(&file, b"half").unwrap();
        set_age(&file, age);
    }
    open(dir.path(), None).collect().await.unwrap();
    assert_eq!(there(dir.path(), &digests), [true, true]);
    let left = |name| dir.path().join("tmp").join(name).exists();
    assert_eq!((left("old"), left("young")), (false, true));
}

#[tokio::test]
async fn a_used_result_keeps_its_blobs_and_an_old_one_goes_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path(), 4).await;
    let remote = open(dir.path(), Some(2300));
    let actions = [sha256(b"kept"), sha256(b"old")].map(|digest| digest.coerce());
    for (action, blob) in actions.iter().zip(&digests) {
        let file = OutputFile { path: "out".into(), digest: Some(wire(blob)), ..OutputFile::default() };
        let result = ActionResult { output_files: vec![file], ..ActionResult::default() };
        // Another remote writes, so that no collection begins here.
        open(dir.path(), None).put_result(action, &result, &context()).await.unwrap();
        set_age(&path(dir.path(), "ac", &action.hash.to_hex()), DAY * 10);
    }
    remote.get_result(&actions[0], &context()).await.unwrap().unwrap();
    // The blobs are noted in the background.
    let blob = blob_path(dir.path(), &digests[0]);
    while fs::metadata(&blob).unwrap().modified().unwrap() < SystemTime::now() - DAY {
        tokio::task::yield_now().await;
    }
    fs::remove_file(dir.path().join("collected")).unwrap_or_default();
    remote.collect().await.unwrap();
    let results = actions.map(|action| path(dir.path(), "ac", &action.hash.to_hex()).exists());
    assert_eq!(results, [true, false]);
    assert_eq!(there(dir.path(), &digests), [true, false, false, true]);
}

#[tokio::test]
async fn two_collectors_at_once_remove_what_one_removes() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let digests = filled(dir.path(), 6).await;
        let (one, other) = (open(dir.path(), Some(3000)), open(dir.path(), Some(3000)));
        let (one, other) = tokio::join!(one.collect(), other.collect());
        assert!(one.is_some() || other.is_some());
        assert_eq!(there(dir.path(), &digests), [false, false, false, true, true, true]);
    }
}

#[tokio::test]
async fn a_clock_that_was_wrong_neither_stops_collections_nor_keeps_files_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path(), 3).await;
    let ahead = SystemTime::now() + 400 * DAY;
    let set = |path: &Path, date| File::options().write(true).open(path).unwrap().set_modified(date).unwrap();
    set(&blob_path(dir.path(), &digests[0]), ahead);
    let mark = dir.path().join("collected");
    fs::write(&mark, b"").unwrap();
    set(&mark, ahead);
    let remote = open(dir.path(), Some(2000));
    assert_eq!(remote.collect().await.unwrap().bytes_removed, 1000);
    assert_eq!(there(dir.path(), &digests), [true, false, true]);
    // Its date is the present now, so it ages.
    let date = fs::metadata(blob_path(dir.path(), &digests[0])).unwrap().modified().unwrap();
    assert!(date < SystemTime::now() + DAY);
}

#[tokio::test]
async fn links_and_files_of_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let digests = filled(dir.path(), 1).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("file");
    fs::write(&target, [0; 5000]).unwrap();
    let shelf = blob_path(dir.path(), &digests[0]).parent().unwrap().to_owned();
    std::os::unix::fs::symlink(
        &target,
        shelf.join(format!("{:0<64}", shelf.file_name().unwrap().to_str().unwrap())),
    )
    .unwrap();
    fs::write(shelf.join("README"), [0; 5000]).unwrap();
    let other = if shelf.ends_with("00") { "01" } else { "00" };
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("cas").join(other)).unwrap();
    let collected = open(dir.path(), Some(500)).collect().await.unwrap();
    assert_eq!(collected, Collected { bytes_before: 1000, bytes_removed: 1000 });
    assert!(target.exists() && shelf.join("README").exists());
}

fn wire(digest: &Digest) -> WireDigest {
    WireDigest { hash: digest.hash.to_hex(), size_bytes: digest.size_bytes as i64 }
}
