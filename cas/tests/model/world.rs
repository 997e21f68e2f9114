//! A store, a model of it, and the comparison of the two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kache_cas::clock::{Clock, ManualClock};
use kache_cas::encoding::wire_digest;
use kache_cas::leases::{LEASE_HONOURED_MAX, UPLOAD_GRACE};
use kache_cas::{
    AccessKind, ActionKey, Digest, DigestFunction, Hash, PROMISE_LEASE, PlaceOptions, Sharing, Store,
    StoreError, StoreSettings,
};
use kache_proto::reapi::{ActionResult, OutputFile};
use proptest::prelude::*;

use super::life::{Event, Name};

type Outcome = Result<(), TestCaseError>;

/// The implementation under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The store in memory, which cannot be reopened.
    Memory,
    /// The store on disk.
    Disk,
}

impl Kind {
    /// The unit of blob sizes: a blob has up to 16 of them.
    fn unit_bytes(self) -> usize {
        match self {
            Kind::Memory => 1 << 10,
            Kind::Disk => 160 << 10,
        }
    }

    fn limit_bytes(self) -> u64 {
        match self {
            Kind::Memory => 200 << 10,
            Kind::Disk => 16 << 20,
        }
    }
}

/// A store, and the model: all that the test knows of the store's content and promises.
pub(crate) struct World {
    kind: Kind,
    store: Option<Store>,
    clock: Arc<ManualClock>,
    settings: StoreSettings,
    dir: tempfile::TempDir,
    /// All digests under which a blob was ever stored.
    stored: HashSet<Digest>,
    /// The time until which a promised blob must be there.
    promised: HashMap<Digest, u64>,
    /// The time until which an uploaded blob must be there, unless a result names it.
    graced: HashMap<(DigestFunction, Name), u64>,
    /// The blobs that a result has ever named: the upload grace no longer protects them.
    named: HashSet<Name>,
    /// The result that was stored last, by key.
    results: HashMap<ActionKey, ModelResult>,
    /// The number of blobs evicted before the store was last opened.
    evicted_before: u64,
    /// How far the clock was set back in total.
    set_back: Duration,
}

struct ModelResult {
    encoded: Bytes,
    named: Vec<Digest>,
    promised_until_ms: u64,
}

impl World {
    /// Makes a new store of this kind.
    pub(crate) fn new(kind: Kind) -> World {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let settings = StoreSettings {
            limit_bytes: kind.limit_bytes(),
            reserve_bytes: 0,
            blob_bytes_max: 15 * kind.unit_bytes() as u64,
            clock: clock.clone(),
            ..StoreSettings::new(dir.path().join("store"))
        };
        let store = Some(open(kind, &settings));
        World {
            kind,
            store,
            clock,
            settings,
            dir,
            stored: HashSet::new(),
            promised: HashMap::new(),
            graced: HashMap::new(),
            named: HashSet::new(),
            results: HashMap::new(),
            evicted_before: 0,
            set_back: Duration::ZERO,
        }
    }

    /// Makes an event happen, and compares store and model.
    pub(crate) fn live(&mut self, event: &Event) -> Outcome {
        match event {
            Event::Write(function, name) => self.write(*function, *name)?,
            Event::Insert(function, names) => self.insert(*function, names)?,
            Event::WriteWrong(function, name) => self.write_wrong(*function, *name)?,
            Event::Abandon(function, name) => self.abandon(*function, *name),
            Event::Ingest(function, name) => self.ingest(*function, *name)?,
            Event::Place(function, name) => self.place(*function, *name)?,
            Event::Find(function, names, access) => self.find(*function, names, *access)?,
            Event::Open(function, name, access) => self.open(*function, *name, *access)?,
            Event::Put(function, key, names) => self.put(*function, *key, names)?,
            Event::Get(function, key, access) => self.get(*function, *key, *access)?,
            Event::Remove(function, key) => self.remove(*function, *key)?,
            Event::Wait(duration) => self.wait(*duration),
            Event::SetBack(duration) => self.set_back(*duration),
            Event::Maintain => while self.store().maintain().unwrap().more_is_due {},
            Event::Step => drop(self.store().maintain().unwrap()),
            Event::Reopen => self.reopen(true),
            Event::Die => self.reopen(false),
        }
        self.compare()
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is closed only while `reopen` runs")
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Lets time pass. A lease that has ended stays ended, even if the clock goes back.
    fn wait(&mut self, duration: Duration) {
        self.clock.advance(duration);
        let now_ms = self.now_ms();
        self.promised.retain(|_, until_ms| *until_ms > now_ms);
        self.graced.retain(|_, until_ms| *until_ms > now_ms);
        let lapsed = self.results.values_mut().filter(|known| known.promised_until_ms <= now_ms);
        lapsed.for_each(|known| known.promised_until_ms = 0);
    }

    /// Sets the clock back, but in total never so far that the store would ignore leases.
    fn set_back(&mut self, by: Duration) {
        if self.set_back + by < LEASE_HONOURED_MAX / 2 {
            self.set_back += by;
            self.clock.set_ms(self.now_ms() - ms(by));
        }
    }

    fn bytes(&self, name: Name) -> Bytes {
        let mut bytes = vec![name; usize::from(name % 16) * self.kind.unit_bytes() + usize::from(name)];
        bytes.iter_mut().step_by(977).zip((0u8..=250).cycle()).for_each(|(byte, index)| *byte ^= index);
        Bytes::from(bytes)
    }

    fn digest(&self, function: DigestFunction, name: Name) -> Digest {
        Digest::of(function, &self.bytes(name))
    }

    fn is_too_large(&self, digest: &Digest) -> bool {
        digest.size_bytes > self.settings.blob_bytes_max
    }

    fn is_missing(&self, digest: &Digest) -> bool {
        self.store().blobs().find_missing(&[*digest], AccessKind::Peek).unwrap()[0]
    }

    /// Updates the model after an attempt to store a blob, whose result was `said`.
    fn given(&mut self, function: DigestFunction, name: Name, said: Result<(), StoreError>) -> Outcome {
        let digest = self.digest(function, name);
        match said {
            Ok(()) => {
                prop_assert!(!self.is_too_large(&digest));
                self.stored.insert(digest);
                // A stored blob can always be found by its BLAKE3.
                self.stored.insert(self.digest(DigestFunction::Blake3, name));
                let until_ms = self.now_ms() + ms(UPLOAD_GRACE);
                let graced = self.graced.entry((function, name)).or_default();
                *graced = until_ms.max(*graced);
                // A blob that a result names is evicted with the result, even right after an upload.
                prop_assert!(
                    self.named.contains(&name) || !self.is_missing(&digest),
                    "{digest} was stored and is missing"
                );
            }
            Err(StoreError::TooLarge { .. }) => prop_assert!(self.is_too_large(&digest)),
            Err(error) => prop_assert!(error.is_no_space(), "{error}"),
        }
        Ok(())
    }

    fn promise(&mut self, digest: Digest, lease: Duration) {
        let until_ms = self.now_ms() + ms(lease);
        let promised = self.promised.entry(digest).or_default();
        *promised = until_ms.max(*promised);
    }

    fn write(&mut self, function: DigestFunction, name: Name) -> Outcome {
        let (digest, bytes) = (self.digest(function, name), self.bytes(name));
        let write = || {
            let mut writer = self.store().blobs().create(&digest)?;
            bytes.chunks(700).try_for_each(|chunk| writer.write(chunk))?;
            writer.commit()
        };
        let said = write();
        if let Ok(names) = &said {
            prop_assert_eq!(names.digest(function), Some(digest));
        }
        self.given(function, name, said.map(drop))
    }

    fn insert(&mut self, function: DigestFunction, names: &[Name]) -> Outcome {
        let blobs: Vec<_> =
            names.iter().map(|&name| (self.digest(function, name), self.bytes(name))).collect();
        let said = self.store().blobs().insert(&blobs);
        prop_assert_eq!(said.len(), names.len());
        for (&name, said) in names.iter().zip(said) {
            self.given(function, name, said)?;
        }
        Ok(())
    }

    fn write_wrong(&mut self, function: DigestFunction, name: Name) -> Outcome {
        let digest = self.digest(function, name);
        let was_missing = self.is_missing(&digest);
        let mut bytes = self.bytes(name).to_vec();
        match bytes.last_mut() {
            Some(last) => *last ^= 1,
            None => bytes.push(0),
        }
        let write = || {
            let mut writer = self.store().blobs().create(&digest)?;
            writer.write(&bytes)?;
            writer.commit()
        };
        let error = write().expect_err("these are not its bytes");
        prop_assert!(error.is_callers_fault() || error.is_no_space(), "{error}");
        if was_missing {
            prop_assert!(self.is_missing(&digest), "{digest} came with the wrong bytes");
        }
        Ok(())
    }

    fn abandon(&self, function: DigestFunction, name: Name) {
        let bytes = self.bytes(name);
        if let Ok(mut writer) = self.store().blobs().create(&self.digest(function, name)) {
            writer.write(&bytes[..bytes.len() / 2]).unwrap();
        }
    }

    fn ingest(&mut self, function: DigestFunction, name: Name) -> Outcome {
        let path = self.dir.path().join("in");
        std::fs::write(&path, self.bytes(name)).unwrap();
        let said = self.store().files().ingest(&path, function, Sharing::Private);
        if let Ok((names, _)) = &said {
            prop_assert_eq!(names.digest(function), Some(self.digest(function, name)));
        }
        // The limit on single blobs need not apply to files of this machine.
        match said {
            Ok(_) if self.is_too_large(&self.digest(function, name)) => {
                self.stored.insert(self.digest(function, name));
                self.stored.insert(self.digest(DigestFunction::Blake3, name));
                Ok(())
            }
            said => self.given(function, name, said.map(drop)),
        }
    }

    fn place(&mut self, function: DigestFunction, name: Name) -> Outcome {
        let digest = self.digest(function, name);
        let path = self.dir.path().join("out");
        std::fs::write(&path, "what was there").unwrap();
        let placing = PlaceOptions { mode: 0o640, modified: None, sharing: Sharing::Private, staging: None };
        let was_missing = self.is_missing(&digest);
        let placed = self.store().files().place(&digest, &path, &placing).unwrap();
        prop_assert_eq!(placed.is_none(), was_missing);
        let expected = if was_missing { Bytes::from_static(b"what was there") } else { self.bytes(name) };
        prop_assert_eq!(Bytes::from(std::fs::read(&path).unwrap()), expected);
        Ok(())
    }

    fn find(&mut self, function: DigestFunction, names: &[Name], access: AccessKind) -> Outcome {
        let digests: Vec<_> = names.iter().map(|&name| self.digest(function, name)).collect();
        let missing = self.store().blobs().find_missing(&digests, access).unwrap();
        prop_assert_eq!(missing.len(), digests.len());
        for (digest, is_missing) in digests.iter().zip(missing) {
            if !is_missing {
                self.said_to_be_there(digest, access)?;
            }
            let other_size = Digest::new(digest.function, digest.hash, digest.size_bytes + 1);
            prop_assert!(self.is_missing(&other_size));
        }
        Ok(())
    }

    fn said_to_be_there(&mut self, digest: &Digest, access: AccessKind) -> Outcome {
        prop_assert!(self.stored.contains(digest) || digest.is_empty_blob(), "{digest} was never stored");
        if access == AccessKind::Promise {
            self.promise(*digest, PROMISE_LEASE);
        }
        Ok(())
    }

    fn open(&mut self, function: DigestFunction, name: Name, access: AccessKind) -> Outcome {
        let digest = self.digest(function, name);
        let was_missing = self.is_missing(&digest);
        let content = self.store().blobs().open(&digest, access).unwrap();
        prop_assert_eq!(content.is_none(), was_missing);
        if let Some(content) = content {
            self.said_to_be_there(&digest, access)?;
            prop_assert_eq!(content.read_all().unwrap(), self.bytes(name));
            let size = self.store().blobs().size_of(function, digest.hash).unwrap();
            prop_assert_eq!(size, Some(digest.size_bytes));
        }
        Ok(())
    }

    fn key(function: DigestFunction, key: u8) -> ActionKey {
        let instance = if key.is_multiple_of(2) { "" } else { "an/instance" };
        ActionKey { instance: instance.into(), function, hash: Hash([key / 2; 32]) }
    }

    fn put(&mut self, function: DigestFunction, key: u8, names: &[Name]) -> Outcome {
        let named: Vec<_> = names.iter().map(|&name| self.digest(function, name)).collect();
        let file = |(index, digest): (usize, &Digest)| OutputFile {
            path: format!("out/{index}"),
            digest: Some(wire_digest(digest)),
            ..Default::default()
        };
        let output_files = named.iter().enumerate().map(file).collect();
        let result = ActionResult { output_files, ..Default::default() };
        let key = World::key(function, key);
        match self.store().actions().put(&key, &result) {
            Ok(stored) => {
                self.named.extend(names);
                let promised_until_ms = self.results.get(&key).map_or(0, |known| known.promised_until_ms);
                self.results.insert(key, ModelResult { encoded: stored.encoded, named, promised_until_ms });
            }
            Err(error) => prop_assert!(error.is_no_space(), "{error}"),
        }
        Ok(())
    }

    fn get(&mut self, function: DigestFunction, key: u8, access: AccessKind) -> Outcome {
        let key = World::key(function, key);
        let found = self.store().actions().get(&key, access).unwrap();
        let now_ms = self.now_ms();
        let known = self.results.get_mut(&key);
        let Some(found) = found else {
            if let Some(known) = known {
                let promised = known.promised_until_ms > now_ms;
                let named = known.named.clone();
                let lacks = named.iter().any(|digest| self.is_missing(digest));
                prop_assert!(lacks || !promised, "a promised result is gone");
            }
            return Ok(());
        };
        let Some(known) = known else {
            return Err(TestCaseError::fail("a result that was never stored"));
        };
        prop_assert_eq!(&found.encoded, &known.encoded);
        if access == AccessKind::Promise {
            known.promised_until_ms = known.promised_until_ms.max(now_ms + ms(PROMISE_LEASE));
        }
        for digest in known.named.clone() {
            prop_assert!(!self.is_missing(&digest), "the result names {digest}, which is not there");
            self.said_to_be_there(&digest, access)?;
        }
        Ok(())
    }

    fn remove(&mut self, function: DigestFunction, key: u8) -> Outcome {
        let key = World::key(function, key);
        let removed = self.store().actions().remove(&key).unwrap();
        prop_assert!(self.results.remove(&key).is_some() || !removed);
        prop_assert_eq!(self.store().actions().get(&key, AccessKind::Peek).unwrap(), None);
        Ok(())
    }

    fn reopen(&mut self, cleanly: bool) {
        if self.kind == Kind::Memory {
            return;
        }
        let store = self.store.take().expect("the store is closed only while `reopen` runs");
        self.evicted_before += store.counters().blobs_evicted;
        if cleanly {
            store.close().unwrap();
        } else {
            // Accesses are written in batches, and the last batch may be lost.
            self.promised.clear();
            self.graced.clear();
            self.results.values_mut().for_each(|known| known.promised_until_ms = 0);
        }
        drop(store);
        self.store = Some(open(self.kind, &self.settings));
    }

    /// Checks what must hold at every moment.
    fn compare(&self) -> Outcome {
        let status = self.store().status();
        prop_assert!(status.physical_bytes <= self.kind.limit_bytes(), "{} bytes", status.physical_bytes);
        prop_assert!(status.troubles.is_empty(), "{:?}", status.troubles);
        let now_ms = self.now_ms();
        for (digest, until_ms) in &self.promised {
            prop_assert!(
                *until_ms <= now_ms || !self.is_missing(digest),
                "{digest} was promised and is gone"
            );
        }
        for ((function, name), until_ms) in &self.graced {
            let digest = self.digest(*function, *name);
            prop_assert!(
                *until_ms <= now_ms || self.named.contains(name) || !self.is_missing(&digest),
                "{digest} was uploaded just now and is gone"
            );
        }
        if self.evicted_before + self.store().counters().blobs_evicted == 0 {
            for digest in &self.stored {
                prop_assert!(!self.is_missing(digest), "{digest} is gone though nothing was evicted");
            }
        }
        Ok(())
    }
}

fn open(kind: Kind, settings: &StoreSettings) -> Store {
    match kind {
        Kind::Memory => Store::in_memory(settings.clone()),
        Kind::Disk => Store::open(settings.clone()).unwrap(),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
