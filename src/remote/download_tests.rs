//! Downloads of several calls at once.

use std::sync::Arc;
use std::time::Duration;

use kache_cas::clock::ManualClock;
use kache_cas::{AccessKind, Digest, Store, StoreSettings};
use kache_remote::memory::MemoryRemote;
use kache_remote::{RemoteError, RequestContext};

use super::damaged::DamagedBlobs;
use super::download::{DownloadError, download};
use super::tests::{SHA256, a_handle, an_upload, contents, store, task};
use super::{AskedRemote, CheckedResult, check, upload};

const DELAY: Duration = Duration::from_millis(50);

/// A remote that takes a while to answer, and a result that lies there.
async fn remote_with_result() -> (Arc<MemoryRemote>, CheckedResult) {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let (_dir, here) = store();
    let sent = an_upload(&here, SHA256);
    upload(&*remote, &here, &sent, &DamagedBlobs::default()).await.unwrap();
    remote.take_requests();
    remote.answer_after(DELAY);
    (remote, check(&task(), &sent.shared.result, SHA256).unwrap())
}

#[tokio::test(start_paused = true)]
async fn net_03_a_blob_that_several_calls_need_at_once_is_downloaded_once() {
    let (remote, checked) = remote_with_result().await;
    let handle = a_handle(&remote);
    let (_dir, there) = store();
    let context = RequestContext::default();
    let session = Arc::default();
    let asked = [(); 3].map(|()| AskedRemote::new(&handle, &session));
    // One of the three needs less than the others.
    let mut fewer = checked.clone();
    fewer.outputs.truncate(1);
    let (one, two, three) = tokio::join!(
        download(&asked[0], &there, &checked, &context),
        download(&asked[1], &there, &fewer, &context),
        download(&asked[2], &there, &checked, &context),
    );
    let lens = [one, two, three].map(|names| names.unwrap().len());
    assert_eq!(lens, [checked.blobs().len(), fewer.blobs().len(), checked.blobs().len()]);
    let requests = remote.take_requests();
    let large = requests.iter().filter(|one| **one == "read").count();
    // Each blob is read once; which call reads the small ones is a matter of luck.
    assert!(large == 1 && requests.len() <= 3, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn net_03_if_a_call_fails_those_that_wait_for_it_try_themselves() {
    let (remote, checked) = remote_with_result().await;
    let handle = a_handle(&remote);
    let (_dir, there) = store();
    let context = RequestContext::default();
    let session = Arc::default();
    let asked = [(); 2].map(|()| AskedRemote::new(&handle, &session));
    let download_as = |one: usize| download(&asked[one], &there, &checked, &context);
    {
        // The first one is given up while it waits for the remote, because its client is gone.
        let mut first = Box::pin(download_as(0));
        while remote.take_requests().is_empty() {
            assert!(run_for_a_moment(first.as_mut()).await.is_none());
        }
        let mut second = Box::pin(download_as(1));
        let given_up = tokio::time::timeout(DELAY / 2, second.as_mut()).await;
        assert!(given_up.is_err());
        assert_eq!(remote.take_requests(), [""; 0], "the second one follows");
        drop(first);
        second.await.unwrap();
    }
    assert_eq!(remote.take_requests(), ["read_small", "read"]);
    // Where the remote has lost the blobs, every call fails.
    for (_, bytes) in contents() {
        remote.forget(&Digest::of(SHA256, &bytes));
    }
    let (_dir, there) = store();
    let download_as = |one: usize| download(&asked[one], &there, &checked, &context);
    let (one, two) = tokio::join!(download_as(0), download_as(1));
    for failed in [one, two] {
        assert!(matches!(failed, Err(DownloadError::Missing(_))), "{failed:?}");
    }
}

/// Lets a future run for a moment. Returns its value if it has ended.
async fn run_for_a_moment<F: Future + Unpin>(future: F) -> Option<F::Output> {
    tokio::time::timeout(Duration::from_millis(1), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn net_01_a_download_that_hangs_costs_a_session_its_limit_once() {
    let (remote, checked) = remote_with_result().await;
    let handle = a_handle(&remote);
    let (_dir, there) = store();
    remote.answer_after(Duration::from_secs(3600));
    let context = RequestContext::default();
    let session = Arc::default();
    let asked = [(); 2].map(|()| AskedRemote::new(&handle, &session));
    let begun = tokio::time::Instant::now();
    let (one, two) = tokio::join!(
        download(&asked[0], &there, &checked, &context),
        download(&asked[1], &there, &checked, &context),
    );
    for failed in [one, two] {
        assert!(matches!(&failed, Err(DownloadError::Remote(RemoteError::Unavailable { .. }))), "{failed:?}");
    }
    // The limit, and what a healthy remote needs for the few bytes of small blobs.
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert!(!asked[0].is_usable() && handle.trouble().is_some());
}

#[tokio::test]
async fn a_download_makes_room_and_takes_none_from_what_is_in_use() {
    let remote = Arc::new(MemoryRemote::new(SHA256));
    let (_dir, here) = store();
    let sent = an_upload(&here, SHA256);
    upload(&*remote, &here, &sent, &DamagedBlobs::default()).await.unwrap();
    let checked = check(&task(), &sent.shared.result, SHA256).unwrap();
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::default()));
    let settings = StoreSettings {
        limit_bytes: 32 << 20,
        reserve_bytes: 0,
        clock: clock.clone(),
        ..StoreSettings::new(dir.path().join("store"))
    };
    let there = Arc::new(Store::open(settings).unwrap());
    // Clients have just uploaded so much that the store is full, and will name it in results.
    let mut kept: Vec<Digest> = Vec::new();
    for seed in 0..u8::MAX {
        let bytes = bytes::Bytes::from(vec![seed + 10; 2 << 20]);
        let blob = Digest::of(SHA256, &bytes);
        match there.blobs().insert(&[(blob, bytes)]).remove(0) {
            Ok(()) => kept.push(blob),
            Err(error) => {
                assert!(error.is_no_space(), "{error}");
                break;
            }
        }
    }
    let has = |blobs: &[Digest]| {
        let missing = there.blobs().find_missing(blobs, AccessKind::Peek).unwrap();
        missing.iter().filter(|is_missing| !**is_missing).count()
    };
    let handle = a_handle(&remote);
    let asked = AskedRemote::new(&handle, &Arc::default());
    let context = RequestContext::default();
    let failed = download(&asked, &there, &checked, &context).await;
    assert!(matches!(&failed, Err(DownloadError::Store(error)) if error.is_no_space()), "{failed:?}");
    assert_eq!(has(&kept), kept.len());
    assert_eq!(handle.trouble(), None, "the remote is not to blame");
    // A day later nobody has named it, and one of the blobs was promised to a client just now.
    clock.advance(Duration::from_secs(24 * 60 * 60));
    there.blobs().find_missing(&kept[..1], AccessKind::Promise).unwrap();
    download(&asked, &there, &checked, &context).await.unwrap();
    assert_eq!(has(&checked.blobs()), checked.blobs().len());
    assert_eq!(has(&kept[..1]), 1);
    assert!(has(&kept) < kept.len());
}
