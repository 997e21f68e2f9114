//! The guard of a target directory in which the daemon lays units down before cargo looks.
//!
//! Meanwhile no other cargo may build there, so cargo's own locks are held: by a process that the
//! client leaves behind, and by its clock. A daemon that is stopped, for a minute or for ever, then
//! keeps neither the locks nor the right to lay anything down.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_proto::control::{Guard, Guarding, Release, Reply, Request, reply, request};

use super::target_dir::TargetDir;
use crate::control::FrameStream;
use crate::os;
use crate::staging::Staging;

/// How long a guard stays at most: longer than the daemon lays units down, and shorter than cargo's
/// next question waits for a daemon that was stopped. So cargo finds its locks free.
const GUARD_MAX: Duration = Duration::from_millis(1_900);

/// Leaves a guard behind, which has nothing of this process but the connection.
pub(super) fn stay(frames: FrameStream) {
    let deadline = Instant::now() + GUARD_MAX;
    os::leave_behind(frames, |frames| guard(frames, deadline));
}

fn guard(mut frames: FrameStream, deadline: Instant) {
    let Some(reply::Kind::Guard(guard)) = next(&mut frames, deadline) else { return };
    let held = hold(&guard);
    let staging = held.as_ref().map(|(_, staging)| staging.path().as_os_str().as_bytes());
    let word = Guarding { staging: Bytes::copy_from_slice(staging.unwrap_or_default()) };
    let told = frames.send(&Request { kind: Some(request::Kind::Guarding(word)) }, deadline);
    let Some((locks, staging)) = held else { return };
    let released = told.is_ok().then(|| next(&mut frames, deadline)).flatten();
    match released {
        Some(reply::Kind::Release(Release { take_back: false })) => staging.keep(),
        _ => staging.revoke(),
    }
    drop(locks);
}

fn next(frames: &mut FrameStream, deadline: Instant) -> Option<reply::Kind> {
    frames.receive::<Reply>(deadline).ok()?.kind
}

fn hold(guard: &Guard) -> Option<(TargetDir, Staging)> {
    let target_dir = path(&guard.target_dir);
    let profiles: Vec<PathBuf> = guard.profiles.iter().map(path).collect();
    let held = TargetDir::hold(&target_dir, profiles.iter().map(PathBuf::as_path)).ok()??;
    Some((held, Staging::in_directory(&target_dir)?))
}

fn path(bytes: &Bytes) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_owned()
}
