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

/// How long an upload waits after its remote has refused it. A build does not ask for it again.
const REFUSED_PAUSE: Duration = Duration::from_secs(10 * 60);

/// How many uploads a remote refuses in a row before all of them wait.
const REFUSALS_MAX: u32 = 3;

/// How long an upload waits after an error of this machine.
const FAILED_PAUSE: Duration = Duration::from_secs(60);

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
    /// The upload is not tried before this time.
    pub(super) not_before: Option<Instant>,
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
    /// The uploads that the remote has refused since it took one.
    refusals: u32,
    /// Until when the remote is left alone, because it refuses everything.
    paused_until: Option<Instant>,
}

/// Why an upload was not made that may be made later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutBack {
    /// The remote does not answer. Its breaker says when it does.
    Unreachable,
    /// The remote has refused this upload, and perhaps it refuses others, too.
    Refused,
    /// This machine failed.
    Failed,
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
            refusals: 0,
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

    /// Puts an upload back that was not made. A remote that has refused several uploads in a row is left alone for a
    /// while.
    pub(super) fn put_back(&mut self, mut upload: QueuedUpload, why: PutBack, now: Instant) {
        let number = self.number();
        let Some(remote) = self.remote(&upload.waiting.handle().id) else { return };
        remote.under_way -= 1;
        upload.use_handle(&remote.handle);
        match why {
            PutBack::Unreachable => {}
            PutBack::Failed => upload.not_before = Some(now + FAILED_PAUSE),
            PutBack::Refused => {
                upload.not_before = Some(now + REFUSED_PAUSE);
                remote.refusals += 1;
                if remote.refusals >= REFUSALS_MAX {
                    remote.paused_until = Some(now + REFUSED_PAUSE);
                }
            }
        }
        remote.insert(number, upload);
    }

    /// Notes that an upload is no longer under way and does not wait, because it was made or never can be.
    pub(super) fn end(&mut self, remote: &str, item: UploadItem, is_made: bool) {
        if let Some(remote) = self.remote(remote) {
            remote.under_way -= 1;
            remote.items.remove(&item);
            if is_made {
                remote.refusals = 0;
            }
        }
    }

    /// Whether uploads wait for a remote and none of them is tried at present.
    pub(super) fn is_stuck(&self, remote: &str, now: Instant) -> bool {
        let remote = self.remotes.iter().find(|one| one.handle.id == remote);
        remote.is_some_and(|remote| {
            remote.under_way == 0
                && !remote.waiting.is_empty()
                && (remote.is_paused(now) || remote.handle.trouble().is_some() || remote.first(now).is_none())
        })
    }

    /// Notes that the uploads were read that an earlier daemon left.
    pub(super) fn note_loaded(&mut self, remote: &str) {
        if let Some(remote) = self.remote(remote) {
            remote.loading = Loading::Done;
        }
    }

    /// Ends the pauses of a remote and of its uploads.
    pub(super) fn resume(&mut self, remote: &str) {
        if let Some(remote) = self.remote(remote) {
            remote.resume();
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
            self.waiting.values_mut().for_each(|upload| upload.use_handle(handle));
            self.resume();
        }
    }

    fn resume(&mut self) {
        (self.paused_until, self.refusals) = (None, 0);
        self.waiting.values_mut().for_each(|upload| upload.not_before = None);
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Returns the first upload that may be tried.
    fn first(&self, now: Instant) -> Option<(Rank, u64)> {
        let may_be_tried = |upload: &QueuedUpload| upload.not_before.is_none_or(|time| now >= time);
        self.waiting.iter().find(|(_, upload)| may_be_tried(upload)).map(|(key, _)| *key)
    }

    fn next(&mut self, now: Instant, date: SystemTime) -> Option<Job> {
        if self.loading == Loading::NotBegun {
            self.loading = Loading::Running;
            return Some(Job::Load(Arc::clone(&self.handle)));
        }
        if self.waiting.is_empty() {
            return None;
        }
        if self.next_age_check.is_none_or(|next| now >= next) {
            let old = self.waiting.iter().find(|(_, upload)| upload.is_too_old(date)).map(|(key, _)| *key);
            if let Some(old) = old {
                return self.take(old).map(Job::Drop);
            }
            self.next_age_check = Some(now + AGE_CHECK_EVERY);
        }
        let first = self.first(now).filter(|_| !self.is_paused(now) && self.handle.trouble().is_none());
        let Some(first) = first else { return self.next_leases(now) };
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
        QueuedUpload {
            item,
            size_bytes,
            is_leaf,
            since,
            leased: None,
            not_before: None,
            waiting: handle.note_upload(),
        }
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
            schedule.end(&handle.id, upload.item, true);
        }
        let last = sent(schedule.next(Instant::now(), date)).unwrap();
        assert_eq!(last.item, item("builds", false));
        schedule.end(&handle.id, last.item, true);
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
        schedule.put_back(under_way, PutBack::Refused, Instant::now());
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
        assert!(sent(schedule.next(Instant::now(), date)).is_some());
    }

    #[tokio::test]
    async fn net_05_a_refused_upload_waits_and_after_some_in_a_row_all_of_them_do() {
        let handle = handle();
        let (mut schedule, date) =
            schedule(&handle, &[("a", 4, false), ("b", 4, false), ("c", 4, false), ("d", 4, false)]);
        let now = Instant::now();
        let refuse = |schedule: &mut Schedule| {
            let upload = sent(schedule.next(now, date))?;
            let item = upload.item;
            schedule.put_back(upload, PutBack::Refused, now);
            Some(item)
        };
        // One blob may be too large for the remote, which takes the others.
        let refused = refuse(&mut schedule).unwrap();
        let made = sent(schedule.next(now, date)).unwrap();
        assert_ne!(made.item, refused);
        schedule.end(&handle.id, made.item, true);
        assert!(!schedule.is_stuck(&handle.id, now));
        assert!(refuse(&mut schedule).is_some() && refuse(&mut schedule).is_some());
        assert!(schedule.is_stuck(&handle.id, now));
        let of = |name| upload(&handle, name, 4, false);
        assert!(schedule.add(of("e"), u64::MAX).is_empty() && schedule.add(of("f"), u64::MAX).is_empty());
        assert!(refuse(&mut schedule).is_some());
        assert!(refuse(&mut schedule).is_none(), "the remote refuses everything");
        assert_eq!((schedule.is_stuck(&handle.id, now), schedule.count(&handle.id)), (true, Some(5)));
        schedule.resume(&handle.id);
        assert!(sent(schedule.next(now, date)).is_some());
    }
}
