//! The guard: a process that holds cargo's locks while the daemon seeds a target directory.
//!
//! No cargo may build there in the meantime, and the daemon must not change the directory after
//! cargo has begun. So the client leaves a process behind that holds the locks and owns the staging
//! directory, until [`GUARD_MAX`] by its own clock. A daemon that is stopped, for a minute or for
//! ever, then keeps neither the locks nor the ability to restore anything.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_proto::control::{Guard, Guarding, Release, Reply, Request, reply, request};

use super::target_dir::LockedTargetDir;
use crate::control::FrameStream;
use crate::os;
use crate::staging::StagingDirectory;

/// The longest life of a guard. It is longer than the daemon seeds, and shorter than cargo's next
/// call waits for a daemon that is stopped, so that cargo finds its locks free.
const GUARD_MAX: Duration = Duration::from_millis(1_900);

/// Starts a guard, which shares nothing with this process but the connection.
pub(super) fn spawn_guard(stream: FrameStream) {
    let deadline = Instant::now() + GUARD_MAX;
    // The deadline counts from here, and not from the guard's own start, so that a slow fork cannot prolong it.
    os::spawn_detached(stream, |stream| guard(stream, deadline));
}

/// Locks the target directory that the daemon names, tells the daemon its staging directory, and
/// waits for `Release`. Without a release, everything that was restored is removed again.
fn guard(mut stream: FrameStream, deadline: Instant) {
    let Some(reply::Kind::Guard(guard)) = next_reply(&mut stream, deadline) else { return };
    let locked = lock(&guard);
    // An empty path tells the daemon that the directory is not locked.
    let staging = locked.as_ref().map(|(_, staging)| staging.path().as_os_str().as_bytes());
    let guarding = Guarding { staging: Bytes::copy_from_slice(staging.unwrap_or_default()) };
    let sent = stream.send(&Request { kind: Some(request::Kind::Guarding(guarding)) }, deadline);
    let Some((locks, staging)) = locked else { return };
    let reply = sent.is_ok().then(|| next_reply(&mut stream, deadline)).flatten();
    match reply {
        Some(reply::Kind::Release(Release { take_back: false })) => staging.keep(),
        // No release in time, or an order to take everything back: kache cannot tell which units are complete, so none
        // is kept.
        _ => staging.revoke(),
    }
    // Cargo goes on only after the files are in their final state.
    drop(locks);
}

fn next_reply(stream: &mut FrameStream, deadline: Instant) -> Option<reply::Kind> {
    stream.receive::<Reply>(deadline).ok()?.kind
}

fn lock(guard: &Guard) -> Option<(LockedTargetDir, StagingDirectory)> {
    let target_dir = path(&guard.target_dir);
    let profiles: Vec<PathBuf> = guard.profiles.iter().map(path).collect();
    let locked = LockedTargetDir::lock(&target_dir, profiles.iter().map(PathBuf::as_path)).ok()??;
    Some((locked, StagingDirectory::in_directory(&target_dir)?))
}

fn path(bytes: &Bytes) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}
