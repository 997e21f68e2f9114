//! Volumes at their limits: full, read-only, and sharing extents.
//!
//! Real filesystems in image files, mounted through loop devices. Mounting needs root. Without root these tests
//! fail and say so, unless `KACHE_TEST_MOUNTS=skip` is set, which CI must not do.

use std::fs;

use tonic::Code;

use crate::daemon::{Daemon, Home, status_of_daemon_without_store};
use crate::load::{Found, Ledger, check, upload};
use crate::volume::Volume;

/// The size of a file on the volume that is not the store's. The store keeps 64 MB of the volume free for its
/// database.
const BALLAST_BYTES: usize = 60 << 20;
/// The number of uploads, each about 240 KB.
const UPLOADS: u32 = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sto_07_a_full_volume_refuses_and_goes_on_serving() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q", "-m", "0"], 200) else { return };
    let ballast = volume.mountpoint.join("ballast");
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let mut home = Home::new(&dir.path().join("home"), &volume.mountpoint.join("cache"));
    home.env.push(("KACHE_MAX_SIZE".to_owned(), "10GiB".to_owned()));
    // By default the store would keep more bytes free than the volume has.
    home.env.push(("KACHE_RESERVE".to_owned(), "0".to_owned()));
    let daemon = Daemon::start(&home).await;
    let ledger = Ledger::default();

    // The uploads are several times larger than the volume. The store may evict or refuse them, and must report a
    // refusal so that clients understand it.
    for _ in 0..UPLOADS {
        let seed = ledger.next();
        match upload(daemon.channel.clone(), seed).await {
            Ok(()) => ledger.acknowledge(seed),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
    }
    // Older results may have been evicted. No result may be there in part.
    let mut whole = 0;
    for seed in ledger.acknowledged() {
        let found = check(daemon.channel.clone(), seed).await.expect("reading needs no room");
        whole += u32::from(found == Found::Whole);
    }
    assert!(whole > 0, "a full volume serves nothing any more");

    fs::remove_file(&ballast).unwrap();
    let seed = ledger.next();
    upload(daemon.channel.clone(), seed).await.expect("there is room again");
    assert_eq!(check(daemon.channel.clone(), seed).await.unwrap(), Found::Whole);
    daemon.kill();
}

#[test]
fn sto_07_a_read_only_volume_is_named_as_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 64) else { return };
    volume.remount("ro");
    let cache_dir = volume.mountpoint.join("cache");
    let home = Home::new(&dir.path().join("home"), &cache_dir);
    let status = status_of_daemon_without_store(&home);
    assert!(
        status.contains(cache_dir.to_str().unwrap()) && status.to_lowercase().contains("read-only"),
        "`kache daemon status` does not name the cause:\n{status}"
    );
}
