//! Blobs and action results on disk: they are returned as stored, after clean and unclean stops.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::clock::ManualClock;
use kache_cas::disk::{DiskSettings, DiskStore};
use kache_cas::evict::Catalog;
use kache_cas::leases::UPLOAD_GRACE;
use kache_cas::{
    AccessKind, ActionCache, ActionKey, BlobStore, Digest, DigestFunction, LocalFiles, PROMISE_LEASE,
    PlaceOptions, Sharing, StoreError,
};

use crate::support::{
    BLAKE3, SHA256, blob_path, bytes, files_below, is_missing, key, open, read, replace, result, upkeep,
    write,
};

const SIZES: [usize; 7] = [0, 1, 4_096, 4_097, 131_072, 131_073, 1_000_003];

#[test]
fn sto_01_stored_blobs_are_there_after_every_kind_of_stop() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4u8 {
        let store = open(dir.path());
        for function in DigestFunction::ALL {
            for size in SIZES {
                for seed in 0..round {
                    let bytes = bytes(seed, size);
                    assert_eq!(read(&store, &Digest::of(function, &bytes)).unwrap(), bytes, "{size}");
                }
                write(&store, function, &bytes(round, size));
            }
        }
        store.put(&key(round), &result(round.into())).unwrap();
        for seed in 0..=round {
            let stored = store.get(&key(seed), AccessKind::Use).unwrap().unwrap();
            assert_eq!(stored.decode().unwrap().exit_code, i32::from(seed));
        }
        if round % 2 == 0 {
            store.close().unwrap();
        }
        assert_eq!(store.troubles(), [""; 0]);
    }
    assert_eq!(files_below(&dir.path().join("tmp")), 0);
}

#[test]
fn a_blob_is_found_by_blake3_and_by_the_digests_it_was_stored_under() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for size in [100, 100_000] {
        let first = bytes(1, size);
        let sha256 = write(&store, SHA256, &first);
        assert!(!is_missing(&store, &sha256) && !is_missing(&store, &Digest::of(BLAKE3, &first)));
        assert_eq!(store.size_of(SHA256, sha256.hash).unwrap(), Some(size as u64));

        let second = bytes(2, size);
        write(&store, BLAKE3, &second);
        assert!(is_missing(&store, &Digest::of(SHA256, &second)), "it was not stored under that name");
        write(&store, SHA256, &second);
        assert_eq!(read(&store, &Digest::of(SHA256, &second)).unwrap(), second);
    }
    assert_eq!(store.usage().unwrap().blobs, 4, "two names are one blob");
    assert_eq!(files_below(&dir.path().join("blobs")), 2, "and one file; small ones have none");
}

#[test]
fn sto_02_rejected_bytes_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for size in [100, 100_000] {
        let good = bytes(1, size);
        let digest: Digest = Digest::of(SHA256, &good);
        let attempt = |bytes: &[u8]| {
            let mut writer = store.create(&digest).unwrap();
            bytes.chunks(7_000).try_for_each(|piece| writer.write(piece))?;
            writer.commit().map(drop)
        };
        let mut wrong = good.clone();
        wrong[size / 2] ^= 1;
        assert!(matches!(attempt(&wrong), Err(StoreError::Mismatch { .. })));
        assert!(matches!(attempt(&good[1..]), Err(StoreError::Length { .. })));
        assert!(matches!(attempt(&[&good[..], &[0]].concat()), Err(StoreError::Length { .. })));
        assert!(is_missing(&store, &digest));
    }
    assert_eq!(files_below(&dir.path().join("tmp")) + files_below(&dir.path().join("blobs")), 0);
    assert_eq!(store.usage().unwrap().blobs, 0);
}

/// A kill between the two steps would not show their order: after an unclean stop such a blob is
/// suspect, and a suspect blob without a file is absent. So this test makes the first step fail,
/// and checks that the second was not made.
#[test]
fn sto_03_a_blob_is_recorded_only_after_its_file_is_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = bytes(1, 100_000);
    let in_the_way = blob_path(dir.path(), &bytes);
    fs::create_dir(&in_the_way).unwrap();
    for function in DigestFunction::ALL {
        let digest = Digest::of(function, &bytes);
        let mut writer = store.create(&digest).unwrap();
        writer.write(&bytes).unwrap();
        assert!(writer.commit().is_err());
        assert!(is_missing(&store, &digest));
        assert_eq!(read(&store, &digest), None);
    }
    assert_eq!(files_below(&dir.path().join("tmp")), 0);

    fs::remove_dir(&in_the_way).unwrap();
    let digest = write(&store, SHA256, &bytes);
    assert_eq!(read(&store, &digest).unwrap(), bytes);
}

#[test]
fn a_known_hash_with_another_size_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for size in [100, 100_000] {
        let digest = write(&store, SHA256, &bytes(1, size));
        for wrong in [size as u64 - 1, size as u64 + 1, 5_000] {
            let wrong: Digest = Digest::new(SHA256, digest.hash, wrong);
            assert!(is_missing(&store, &wrong));
            assert!(read(&store, &wrong).is_none());
        }
    }
}

#[test]
fn a_bad_blob_of_many_does_not_keep_the_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut blobs: Vec<(Digest, Bytes)> = [10, 4_096, 5_000, 100_000, 10]
        .map(|size| (Digest::of(SHA256, &bytes(1, size)), Bytes::from(bytes(1, size))))
        .to_vec();
    blobs.push((Digest::of(BLAKE3, &bytes(1, 10)), Bytes::from(bytes(1, 10))));
    blobs.push((Digest::of(BLAKE3, b"claimed"), Bytes::from_static(b"given..")));
    let answers = store.insert(&blobs);
    assert!(answers[..6].iter().all(Result::is_ok), "{answers:?}");
    assert!(matches!(answers[6], Err(StoreError::Mismatch { .. })));
    for (digest, bytes) in &blobs[..6] {
        assert_eq!(read(&store, digest).unwrap(), *bytes);
    }
    assert_eq!(store.usage().unwrap().blobs, 4);
}

#[test]
fn find_missing_answers_in_order_and_with_repetitions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let there = [write(&store, SHA256, &bytes(1, 10)), write(&store, BLAKE3, &bytes(2, 10_000))];
    let absent = [Digest::of(SHA256, b"absent"), Digest::of(BLAKE3, b"absent")];
    let empty = DigestFunction::ALL.map(Digest::empty);
    let asked = [there[0], absent[0], empty[0], there[1], absent[1], there[0], empty[1]];
    let missing = store.find_missing(&asked, AccessKind::Promise).unwrap();
    assert_eq!(missing, [false, true, false, false, true, false, false]);
    assert_eq!(store.find_missing(&[], AccessKind::Use).unwrap(), [false; 0]);
}

#[test]
fn action_results_are_kept_apart_by_instance_and_function() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let base = key(1);
    let keys = [
        base.clone(),
        ActionKey { instance: "".into(), ..base.clone() },
        ActionKey { function: BLAKE3, ..base.clone() },
        ActionKey { hash: SHA256.hash(b"other"), ..base },
    ];
    for (key, code) in keys.iter().zip(0..) {
        assert_eq!(store.get(key, AccessKind::Use).unwrap(), None);
        store.put(key, &result(code)).unwrap();
    }
    for (key, code) in keys.iter().zip(0..) {
        let stored = store.get(key, AccessKind::Use).unwrap().unwrap();
        assert_eq!(stored.decode().unwrap().exit_code, code);
    }
    assert!(store.remove(&keys[0]).unwrap() && !store.remove(&keys[0]).unwrap());
    assert_eq!(store.get(&keys[0], AccessKind::Use).unwrap(), None);
    assert!(store.get(&keys[1], AccessKind::Use).unwrap().is_some());
}

#[test]
fn sto_05_a_deletion_removes_every_name_of_a_blob_unless_it_was_accessed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store =
        DiskStore::open(DiskSettings { clock: clock.clone(), ..DiskSettings::new(dir.path()) }).unwrap();
    for size in [100, 100_000] {
        let bytes = bytes(1, size);
        let digests = [write(&store, SHA256, &bytes), Digest::of(BLAKE3, &bytes)];
        let seen = || store.blob_entry(&digests[0]).unwrap().unwrap().retention;
        let before = store.usage().unwrap();
        let delete = |retention| store.delete_blob(&digests[1].hash, retention).unwrap();
        clock.advance(UPLOAD_GRACE);
        let looked = seen();
        clock.advance(Duration::from_secs(120));
        assert!(read(&store, &digests[0]).is_some());
        assert_eq!(delete(looked), None, "it was used since");
        let content = store.open(&digests[0], AccessKind::Promise).unwrap().unwrap();
        assert_eq!(delete(seen()), None, "it is promised");
        clock.advance(PROMISE_LEASE * 2);
        let deletions = store.deletions();
        assert!(delete(seen()).unwrap() >= size as u64);
        assert!(store.deletions() > deletions);
        assert!(digests.iter().all(|digest| is_missing(&store, digest) && read(&store, digest).is_none()));
        assert_eq!(content.read_all().unwrap(), bytes, "STO-04: what is open stays readable");
        assert_eq!(store.usage().unwrap().blobs, before.blobs - 1);
    }
    assert_eq!(files_below(&dir.path().join("blobs")), 0);
}

#[test]
fn sto_04_a_promise_survives_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let settings = DiskSettings { clock: clock.clone(), ..DiskSettings::new(dir.path()) };
    let digest = {
        let store = DiskStore::open(settings.clone()).unwrap();
        let digest = write(&store, BLAKE3, &bytes(1, 10_000));
        clock.advance(UPLOAD_GRACE * 2);
        store.find_missing(&[digest], AccessKind::Promise).unwrap();
        upkeep(&store);
        digest
    };
    let store = DiskStore::open(settings).unwrap();
    let retention = store.blob_entry(&digest).unwrap().unwrap().retention;
    assert_eq!(store.delete_blob(&digest.hash, retention).unwrap(), None);
    clock.advance(PROMISE_LEASE * 2);
    assert!(store.delete_blob(&digest.hash, retention).unwrap().is_some());
}

#[test]
fn sto_02_a_blob_damaged_by_an_unclean_stop_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let blobs: Vec<Vec<u8>> = (0..4).map(|seed| bytes(seed, 50_000)).collect();
    let digests: Vec<Digest> = {
        let store = open(dir.path());
        blobs.iter().map(|bytes| write(&store, SHA256, bytes)).collect()
    };
    // A loss of power can truncate a file, lose it, or leave zeros in place of data.
    let paths: Vec<PathBuf> = blobs.iter().map(|bytes| blob_path(dir.path(), bytes)).collect();
    fs::remove_file(&paths[1]).unwrap();
    replace(&paths[2], &blobs[2][..30_000]);
    replace(&paths[3], &vec![0; 50_000]);

    let store = open(dir.path());
    let missing = store.find_missing(&digests, AccessKind::Promise).unwrap();
    assert_eq!(missing, [false, true, true, true]);
    let found: Vec<_> = digests.iter().map(|digest| read(&store, digest)).collect();
    assert_eq!(found, [Some(blobs[0].clone()), None, None, None]);
    let counters = store.counters();
    assert_eq!((counters.torn, counters.damaged, counters.verified), (3, 0, 1));
    for bytes in &blobs {
        let digest = write(&store, SHA256, bytes);
        assert_eq!(read(&store, &digest).unwrap(), *bytes, "it can be stored anew");
    }
    assert_eq!(store.usage().unwrap().blobs, 4);
}

#[test]
fn sto_02_upkeep_hashes_all_suspects_and_then_trusts_them() {
    let dir = tempfile::tempdir().unwrap();
    let digests: Vec<Digest> = {
        let store = open(dir.path());
        (0..20).map(|seed| write(&store, BLAKE3, &bytes(seed, 5_000))).collect()
    };
    replace(&blob_path(dir.path(), &bytes(7, 5_000)), &[0; 5_000]);
    {
        let store = open(dir.path());
        upkeep(&store);
        let counters = store.counters();
        assert_eq!((counters.torn, counters.verified), (1, 19));
        store.close().unwrap();
    }
    let store = open(dir.path());
    for (seed, digest) in digests.iter().enumerate() {
        assert_eq!(read(&store, digest).is_some(), seed != 7);
    }
    assert_eq!(store.counters().verified, 0, "no blob is suspect any more");
}

#[test]
fn sto_02_damage_after_a_clean_stop_is_reported_and_out_of_service() {
    let dir = tempfile::tempdir().unwrap();
    let blobs: Vec<Vec<u8>> = (0..2).map(|seed| bytes(seed, 50_000)).collect();
    let digests: Vec<Digest> = {
        let store = open(dir.path());
        let digests = blobs.iter().map(|bytes| write(&store, SHA256, bytes)).collect();
        store.close().unwrap();
        digests
    };
    fs::remove_file(blob_path(dir.path(), &blobs[0])).unwrap();
    replace(&blob_path(dir.path(), &blobs[1]), &blobs[1][..20]);
    let store = open(dir.path());
    for digest in &digests {
        let error = store.open(digest, AccessKind::Use).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(store.open(digest, AccessKind::Use).unwrap().is_none() && is_missing(&store, digest));
    }
    assert_eq!(store.counters().damaged, 2);
    assert!(store.troubles()[0].contains("2 blobs were damaged"), "{:?}", store.troubles());
    for bytes in &blobs {
        write(&store, SHA256, bytes);
    }
    assert_eq!(read(&store, &digests[1]).unwrap(), blobs[1]);
}

#[test]
fn sto_01_orphans_and_drafts_of_a_dead_process_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let kept = {
        let store = open(dir.path());
        write(&store, BLAKE3, &bytes(1, 10_000))
    };
    let orphan = blob_path(dir.path(), &bytes(2, 10_000));
    fs::write(&orphan, "whatever").unwrap();
    let draft = dir.path().join("tmp/1-2-3");
    fs::write(&draft, "half").unwrap();
    let foreign = dir.path().join("blobs/ab/notes.txt");
    fs::write(&foreign, "not ours").unwrap();

    let store = open(dir.path());
    let digest: Digest = Digest::of(BLAKE3, &bytes(3, 10_000));
    let mut writer = store.create(&digest).unwrap();
    writer.write(&bytes(3, 10_000)).unwrap();
    upkeep(&store);
    writer.commit().unwrap();
    assert!(!orphan.exists() && !draft.exists() && foreign.exists());
    assert_eq!(store.counters().reaped, 2);
    assert!(read(&store, &kept).is_some() && read(&store, &digest).is_some());
}

#[test]
fn usage_is_known_as_soon_as_the_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        for seed in 0..100 {
            store.put(&key(seed), &result(1)).unwrap();
        }
        store.close().unwrap();
    }
    assert_eq!(open(dir.path()).usage().unwrap().action_results, 100);
}

#[test]
fn sto_06_totals_are_right_after_an_unclean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let before = {
        let store = open(dir.path());
        for seed in 0..10 {
            write(&store, SHA256, &bytes(seed, 20_000));
        }
        for seed in 0..10 {
            write(&store, SHA256, &bytes(seed, 200));
        }
        for seed in 0..10 {
            write(&store, BLAKE3, &bytes(seed, 20_000));
        }
        store.usage().unwrap()
    };
    assert_eq!((before.blobs, before.logical_bytes), (20, 202_000));
    assert!(before.physical_bytes >= 10 * 20_480);
    let after = open(dir.path()).usage().unwrap();
    assert_eq!((after.blobs, after.logical_bytes), (20, 202_000));
}

#[test]
fn sto_06_a_writer_without_room_is_refused_before_its_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let settings = DiskSettings { limit_bytes: 64 << 20, ..DiskSettings::new(dir.path()) };
    let store = DiskStore::open(settings).unwrap();
    let digest: Digest = Digest::new(BLAKE3, BLAKE3.hash(b"large"), 60 << 20);
    let first = store.create(&digest).unwrap();
    let error = store.create(&digest).map(drop).unwrap_err();
    assert!(error.is_no_space() && error.to_string().contains("limit"), "{error}");
    drop(first);
    store.create(&digest).map(drop).unwrap();
}

#[test]
fn a_closed_store_refuses_blobs_and_results() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = bytes(1, 10_000);
    let digest: Digest = Digest::of(BLAKE3, &bytes);
    let mut writer = store.create(&digest).unwrap();
    writer.write(&bytes).unwrap();
    store.close().unwrap();
    assert!(matches!(writer.commit(), Err(StoreError::Closing)));
    assert!(matches!(store.put(&key(1), &result(0)), Err(StoreError::Closing)));
    assert!(is_missing(&store, &digest));
}

#[test]
fn pages_list_every_entry_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for seed in 0..50 {
        write(&store, SHA256, &bytes(seed, 10 + 200 * usize::from(seed)));
    }
    for seed in 0..50 {
        store.put(&key(seed), &result(1)).unwrap();
    }
    let mut blobs = Vec::new();
    loop {
        let page = store.blobs_after(blobs.last(), 7).unwrap();
        if page.is_empty() {
            break;
        }
        blobs.extend(page.iter().map(|entry| entry.names.blake3));
    }
    assert!(blobs.len() == 50 && blobs.is_sorted());
    let mut actions: Vec<ActionKey> = Vec::new();
    loop {
        let page = store.actions_after(actions.last(), 7).unwrap();
        if page.is_empty() {
            break;
        }
        actions.extend(page.into_iter().map(|entry| entry.key));
    }
    assert_eq!(actions.len(), 50);
    assert!((0..50).all(|seed| actions.contains(&key(seed))));
}

#[test]
fn an_ingested_file_is_placed_with_the_same_bytes() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    for size in SIZES {
        let bytes = bytes(1, size);
        let (from, to) = (outside.path().join("from"), outside.path().join("to"));
        fs::write(&from, &bytes).unwrap();
        let (names, _) = store.ingest(&from, SHA256, Sharing::Private).unwrap();
        let digest = names.digest(SHA256).unwrap();
        assert_eq!(digest, Digest::of(SHA256, &bytes));
        let placing = PlaceOptions { mode: 0o640, modified: None, sharing: Sharing::Private, staging: None };
        assert!(store.place(&digest, &to, &placing).unwrap().is_some());
        assert_eq!(fs::read(&to).unwrap(), bytes);
    }
}
