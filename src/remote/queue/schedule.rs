//! Decides which upload is next. Pure, apart from the handles' breakers that it looks at.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::dir::UploadItem;
use crate::remote::handle::{RemoteHandle, WaitingUpload};

/// The size up to which a result counts as small.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// How long an upload may wait. Beyond it, it is dropped.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The interval at which uploads that are too old are looked for.
const AGE_CHECK_EVERY: Duration = Duration::from_secs(60);

/// The most uploads that wait for one remote. Beyond it, the oldest is dropped.
const WAITING_MAX: usize = 50_000;

/// The interval at which the leases of blobs are renewed whose uploads wait. It is shorter than a lease.
const LEASE_EVERY: Duration = Duration::from_secs(60 * 60);

/// How many leases are renewed at once.
const LEASES_MAX: usize = 256;

/// The order of uploads: a toolchain, without which no action can be executed, and then what other compiles wait for comes first, the small before the large. Programs and
/// debugging information follow, and then the lists of builds, which name all of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Toolchain,
    Small,
    Large,
    Leaf,
    Builds,
}

/// An upload that waits.
#[derive(Debug)]
pub(super) struct QueuedUpload {
    pub(super) item: UploadItem,
    pub(super) size_bytes: u64,
    pub(super) is_leaf: bool,
    pub(super) since: SystemTime,
    /// When the blobs were leased; `None` if they never were.
    pub(super) leased: Option<Instant>,
    pub(super) waiting: WaitingUpload,
}

impl QueuedUpload {
    fn rank(&self) -> Rank {
        match self.item {
            UploadItem::Builds { .. } => Rank::Builds,
            UploadItem::Toolchain { .. } => Rank::Toolchain,
            UploadItem::Result { .. } if self.is_leaf => Rank::Leaf,
            UploadItem::Result { .. } if self.size_bytes <= SMALL_BYTES_MAX => Rank::Small,
            UploadItem::Result { .. } => Rank::Large,
        }
    }

    fn use_handle(&mut self, handle: &Arc<RemoteHandle>) {
        if !Arc::ptr_eq(self.waiting.handle(), handle) {
            self.waiting = handle.note_upload();
        }
    }

    fn is_too_old(&self, now: SystemTime) -> bool {
        now.duration_since(self.since).is_ok_and(|age| age > AGE_MAX)
    }
}

/// Whether the uploads that an earlier daemon left were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loading {
    NotBegun,
    Running,
    Done,
}

/// The uploads of one remote.
#[derive(Debug)]
struct RemoteUploads {
    handle: Arc<RemoteHandle>,
    loading: Loading,
    waiting: BTreeMap<(Rank, u64), QueuedUpload>,
    /// The sum of the sizes of what waits.
    waiting_bytes: u64,
    /// The items that wait or are under way.
    items: HashSet<UploadItem>,
    under_way: usize,
    /// When uploads that are too old are looked for next.
    next_age_check: Option<Instant>,
    /// Until when the remote is left alone, because it has refused an upload.
    paused_until: Option<Instant>,
}

/// A piece of work of the queue.
#[derive(Debug)]
pub(super) enum Job {
    /// Read the uploads that an earlier daemon left for this remote.
    Load(Arc<RemoteHandle>),
    /// Drop this upload, which has waited for too long.
    Drop(QueuedUpload),
    /// Lease the blobs of these uploads for this remote.
    Lease(Arc<RemoteHandle>, Vec<UploadItem>),
    /// Make this upload.
    Send(QueuedUpload),
}

/// All uploads.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    remotes: Vec<RemoteUploads>,
    next_number: u64,
}

impl Schedule {
    /// Makes a remote known. Returns whether it was not.
    pub(super) fn add_remote(&mut self, handle: &Arc<RemoteHandle>) -> bool {
        let known = self.remotes.iter_mut().find(|one| one.handle.id == handle.id);
        if let Some(known) = known {
            known.take_handle(handle);
            return false;
        }
        self.remotes.push(RemoteUploads {
            handle: Arc::clone(handle),
            loading: Loading::NotBegun,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            items: HashSet::new(),
            under_way: 0,
            next_age_check: None,
            paused_until: None,
        });
        true
    }

    /// Adds an upload, unless it waits already or is under way. Returns the uploads that are dropped for it: the
    /// oldest ones, if more than `bytes_max` wait.
    pub(super) fn add(&mut self, upload: QueuedUpload, bytes_max: u64) -> Vec<QueuedUpload> {
        self.add_remote(upload.waiting.handle());
        let number = self.number();
        let Some(remote) = self.remote(&upload.waiting.handle().id) else { return Vec::new() };
        if remote.items.insert(upload.item) {
            remote.insert(number, upload);
        }
        remote.drop_oldest(bytes_max)
    }

    /// Puts an upload back that was not made. If the remote has refused it, its uploads pause until then.
    pub(super) fn put_back(&mut self, mut upload: QueuedUpload, paused_until: Option<Instant>) {
        let number = self.number();
        let Some(remote) = self.remote(&upload.waiting.handle().id) else { return };
        remote.under_way -= 1;
        upload.use_handle(&remote.handle);
        remote.paused_until = paused_until.or(remote.paused_until);
        remote.insert(number, upload);
    }

    /// Notes that an upload is no longer under way and does not wait.
    pub(super) fn end(&mut self, remote: &str, item: UploadItem) {
        if let Some(remote) = self.remote(remote) {
            remote.under_way -= 1;
            remote.items.remove(&item);
        }
    }

    /// Notes that the uploads were read that an earlier daemon left.
    pub(super) fn note_loaded(&mut self, remote: &str) {
        if let Some(remote) = self.remote(remote) {
            remote.loading = Loading::Done;
        }
    }

    /// Ends the pause of a remote.
    pub(super) fn resume(&mut self, remote: &str) {
        if let Some(remote) = self.remote(remote) {
            remote.paused_until = None;
        }
    }

    /// Returns the number of uploads that wait for a remote or are under way; `None` if those that an earlier
    /// daemon left were not read yet.
    pub(super) fn count(&self, remote: &str) -> Option<usize> {
        let remote = self.remotes.iter().find(|one| one.handle.id == remote)?;
        (remote.loading == Loading::Done).then_some(remote.items.len())
    }

    /// Returns whether this upload waits or is under way.
    pub(super) fn has(&self, remote: &str, item: UploadItem) -> bool {
        self.remotes.iter().any(|one| one.handle.id == remote && one.items.contains(&item))
    }

    /// Takes the next piece of work; `None` if there is none at present.
    pub(super) fn next(&mut self, now: Instant, date: SystemTime) -> Option<Job> {
        let job = self.remotes.iter_mut().find_map(|remote| remote.next(now, date))?;
        // The remotes take turns, so that a slow one with much to do does not hold up the others.
        self.remotes.rotate_left(1);
        Some(job)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn remote(&mut self, id: &str) -> Option<&mut RemoteUploads> {
        self.remotes.iter_mut().find(|one| one.handle.id == id)
    }
}

impl RemoteUploads {
    /// Uses this handle from now on. Its credentials or limits may differ from those of the last one.
    fn take_handle(&mut self, handle: &Arc<RemoteHandle>) {
        if !Arc::ptr_eq(&self.handle, handle) {
            self.handle = Arc::clone(handle);
            self.paused_until = None;
            self.waiting.values_mut().for_each(|upload| upload.use_handle(handle));
        }
    }

    fn next(&mut self, now: Instant, date: SystemTime) -> Option<Job> {
        if self.loading == Loading::NotBegun {
            self.loading = Loading::Running;
            return Some(Job::Load(Arc::clone(&self.handle)));
        }
        let first = *self.waiting.keys().next()?;
        if self.next_age_check.is_none_or(|next| now >= next) {
            let old = self.waiting.iter().find(|(_, upload)| upload.is_too_old(date)).map(|(key, _)| *key);
            if let Some(old) = old {
                return self.take(old).map(Job::Drop);
            }
            self.next_age_check = Some(now + AGE_CHECK_EVERY);
        }
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        if is_paused || self.handle.trouble().is_some() {
            return self.next_leases(now);
        }
        self.paused_until = None;
        // A list of builds goes out when everything that it names has done so.
        if first.0 == Rank::Builds && self.under_way > 0 {
            return None;
        }
        self.take(first).map(Job::Send)
    }

    fn insert(&mut self, number: u64, upload: QueuedUpload) {
        self.waiting_bytes += upload.size_bytes;
        self.waiting.insert((upload.rank(), number), upload);
    }

    fn remove(&mut self, key: (Rank, u64)) -> Option<QueuedUpload> {
        let upload = self.waiting.remove(&key)?;
        self.waiting_bytes -= upload.size_bytes;
        Some(upload)
    }

    fn take(&mut self, key: (Rank, u64)) -> Option<QueuedUpload> {
        let upload = self.remove(key)?;
        self.under_way += 1;
        Some(upload)
    }

    fn next_leases(&mut self, now: Instant) -> Option<Job> {
        let is_due = |upload: &&mut QueuedUpload| {
            upload.leased.is_none_or(|leased| now.duration_since(leased) >= LEASE_EVERY)
        };
        let mut items = Vec::new();
        for upload in self.waiting.values_mut().filter(is_due).take(LEASES_MAX) {
            upload.leased = Some(now);
            items.push(upload.item);
        }
        (!items.is_empty()).then(|| Job::Lease(Arc::clone(&self.handle), items))
    }

    fn drop_oldest(&mut self, bytes_max: u64) -> Vec<QueuedUpload> {
        let mut dropped = Vec::new();
        while self.waiting_bytes > bytes_max || self.waiting.len() > WAITING_MAX {
            let oldest = self.waiting.iter().min_by_key(|(key, upload)| (upload.since, key.1));
            let Some(upload) = oldest.map(|(key, _)| *key).and_then(|key| self.remove(key)) else { break };
            self.items.remove(&upload.item);
            dropped.push(upload);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;
    use kache_remote::RemoteError;
    use kache_remote::memory::MemoryRemote;

    use super::*;
    use crate::remote::handle::{AnswerLimits, RemoteConnections, RemoteUses};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn handle() -> Arc<RemoteHandle> {
        named_handle("r")
    }

    fn named_handle(name: &str) -> Arc<RemoteHandle> {
        let remote = Arc::new(MemoryRemote::new(DigestFunction::Sha256));
        let connections = RemoteConnections { reader: remote.clone(), writer: remote };
        RemoteHandle::new(connections, name.to_owned(), RemoteUses::READ_WRITE, AnswerLimits::default())
    }

    fn upload(handle: &Arc<RemoteHandle>, name: &str, size_bytes: u64, is_leaf: bool) -> QueuedUpload {
        let hash = DigestFunction::Blake3.hash(name.as_bytes());
        let item = match name {
            "builds" => UploadItem::Builds { workspace: hash },
            _ => UploadItem::Result { own_action: hash, function: DigestFunction::Sha256 },
        };
        let since = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        QueuedUpload { item, size_bytes, is_leaf, since, leased: None, waiting: handle.note_upload() }
    }

    /// A schedule with uploads of these names, sizes and kinds, and the time at which they were added.
    fn schedule(handle: &Arc<RemoteHandle>, uploads: &[(&str, u64, bool)]) -> (Schedule, SystemTime) {
        let mut schedule = Schedule::default();
        assert!(schedule.add_remote(handle));
        let date = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        assert!(matches!(schedule.next(Instant::now(), date), Some(Job::Load(_))));
        assert_eq!(schedule.count(&handle.id), None, "an earlier daemon may have left some");
        schedule.note_loaded(&handle.id);
        for (name, size_bytes, is_leaf) in uploads {
            let dropped = schedule.add(upload(handle, name, *size_bytes, *is_leaf), u64::MAX);
            assert!(dropped.is_empty());
        }
        (schedule, date)
    }

    fn sent(job: Option<Job>) -> Option<QueuedUpload> {
        match job {
            Some(Job::Send(upload)) => Some(upload),
            _ => None,
        }
    }

    #[tokio::test]
    async fn what_other_compiles_wait_for_goes_first_and_a_list_of_builds_last() {
        let handle = handle();
        let uploads =
            [("builds", 0, false), ("program", 9, true), ("large", 9 << 20, false), ("small", 9, false)];
        let (mut schedule, date) = schedule(&handle, &uploads);
        let mut order = Vec::new();
        let mut under_way = Vec::new();
        while let Some(upload) = sent(schedule.next(Instant::now(), date)) {
            order.push(upload.item);
            under_way.push(upload);
        }
        let item = |name, is_leaf| upload(&handle, name, 0, is_leaf).item;
        assert_eq!(order, [item("small", false), item("large", false), item("program", true)]);
        for upload in under_way {
            assert!(schedule.next(Instant::now(), date).is_none(), "the list waits for the results");
            schedule.end(&handle.id, upload.item);
        }
        let last = sent(schedule.next(Instant::now(), date)).unwrap();
        assert_eq!(last.item, item("builds", false));
        schedule.end(&handle.id, last.item);
        assert_eq!(schedule.count(&handle.id), Some(0));
    }

    #[tokio::test]
    async fn an_upload_waits_once_and_the_oldest_make_room() {
        let handle = handle();
        let (mut schedule, date) = schedule(&handle, &[("a", 4, false), ("a", 4, false), ("b", 4, false)]);
        assert_eq!((schedule.count(&handle.id), handle.uploads_waiting()), (Some(2), 2));
        let dropped = schedule.add(upload(&handle, "c", 4, false), 8);
        assert_eq!(
            dropped.iter().map(|one| one.item).collect::<Vec<_>>(),
            [upload(&handle, "a", 0, false).item]
        );
        let next = schedule.next(Instant::now() + AGE_CHECK_EVERY, date + 8 * DAY);
        assert!(matches!(next, Some(Job::Drop(_))), "{next:?}");
    }

    #[tokio::test]
    async fn remotes_take_turns() {
        let (one, other) = (handle(), named_handle("other"));
        let (mut schedule, date) = schedule(&one, &[("a", 4, false), ("b", 4, false)]);
        assert!(schedule.add_remote(&other));
        assert!(sent(schedule.next(Instant::now(), date)).is_some());
        assert!(matches!(schedule.next(Instant::now(), date), Some(Job::Load(_))));
        schedule.add(upload(&one, "c", 4, false), u64::MAX);
        schedule.add(upload(&other, "a", 4, false), u64::MAX);
        let order: Vec<String> = std::iter::from_fn(|| sent(schedule.next(Instant::now(), date)))
            .map(|upload| upload.waiting.handle().name.clone())
            .collect();
        assert_eq!(order, ["r", "other", "r"]);
    }

    #[tokio::test]
    async fn uploads_take_the_newest_credentials() {
        let (old, new) = (handle(), handle());
        let (mut schedule, date) = schedule(&old, &[("a", 4, false), ("b", 4, false)]);
        let under_way = sent(schedule.next(Instant::now(), date)).unwrap();
        schedule.put_back(under_way, Some(Instant::now() + LEASE_EVERY));
        assert!(!schedule.add_remote(&new), "the place is the same");
        assert_eq!((old.uploads_waiting(), new.uploads_waiting()), (0, 2));
        let next = sent(schedule.next(Instant::now(), date)).unwrap();
        assert!(Arc::ptr_eq(next.waiting.handle(), &new), "and it is asked at once");
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_that_cannot_be_made_have_leases_and_wait() {
        let handle = handle();
        let (mut schedule, date) = schedule(&handle, &[("a", 4, false), ("b", 4, false)]);
        let _ = handle.note(Err::<(), _>(RemoteError::unavailable("down")));
        let leases = |job: Option<Job>| match job {
            Some(Job::Lease(_, items)) => items.len(),
            _ => 0,
        };
        assert_eq!(leases(schedule.next(Instant::now(), date)), 2);
        assert!(schedule.next(Instant::now(), date).is_none());
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(handle.trouble(), None, "it answers again");
        let first = sent(schedule.next(Instant::now(), date)).unwrap();
        schedule.put_back(first, Some(Instant::now() + LEASE_EVERY));
        assert!(schedule.next(Instant::now(), date).is_none(), "the leases are young");
        let (first, resumed) =
            (schedule.count(&handle.id), schedule.next(Instant::now() + 2 * LEASE_EVERY, date));
        assert_eq!((first, sent(resumed).is_some()), (Some(2), true));
        schedule.resume(&handle.id);
        assert!(sent(schedule.next(Instant::now(), date)).is_some());
    }
}
