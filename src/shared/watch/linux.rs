//! The watch with inotify. A watched directory reports changes that were made through the links in that
//! directory. It does not report new or removed links.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use parking_lot::Mutex;

use super::WatchEvent;
use crate::shared::entry::Inode;

/// The directories that are watched.
#[derive(Debug)]
pub(in crate::shared) struct Watch {
    inotify: Inotify,
    dirs: Mutex<HashMap<WatchDescriptor, (Inode, PathBuf)>>,
}

impl Watch {
    /// Creates a watch without directories.
    pub(in crate::shared) fn new() -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Watch { inotify, dirs: Mutex::default() })
    }

    /// Watches a directory, which is at the path `below` in the target directory.
    pub(in crate::shared) fn add(&self, dir: &Path, target: Inode, below: &Path) -> io::Result<()> {
        // The system reports a change of the modification time alone as if it were a write.
        let mask = AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ONLYDIR;
        let mut dirs = self.dirs.lock();
        let watched = self.inotify.add_watch(dir, mask)?;
        dirs.insert(watched, (target, below.to_owned()));
        Ok(())
    }

    /// Waits for an event, or until the timeout. Returns whether there is one.
    pub(in crate::shared) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        let poll_timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, poll_timeout) {
            Err(Errno::EINTR) => Ok(false),
            ready => Ok(ready? > 0),
        }
    }

    /// Returns all events since the last call. Does not wait.
    pub(in crate::shared) fn events(&self) -> io::Result<Vec<WatchEvent>> {
        let mut events = Vec::new();
        loop {
            match self.inotify.read_events() {
                Ok(read) => {
                    let mut dirs = self.dirs.lock();
                    events.extend(read.into_iter().filter_map(|event| meaning(event, &mut dirs)));
                }
                Err(Errno::EAGAIN) => return Ok(events),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn meaning(event: InotifyEvent, dirs: &mut HashMap<WatchDescriptor, (Inode, PathBuf)>) -> Option<WatchEvent> {
    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
        return Some(WatchEvent::Lost);
    }
    if event.mask.contains(AddWatchFlags::IN_IGNORED) {
        let (target, below) = dirs.remove(&event.wd)?;
        return Some(WatchEvent::Gone { target, below });
    }
    // An event without a name is about the directory itself.
    let (name, (target, below)) = (event.name?, dirs.get(&event.wd)?);
    let is_written = event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE);
    Some(WatchEvent::Touched { target: *target, below: below.join(name), is_written })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    const TARGET: Inode = Inode { device: 1, number: 2 };

    #[test]
    fn rst_02_a_watch_names_the_link_that_was_used_and_reports_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(path(name)).unwrap();
        }
        File::create(path("a/x")).unwrap();
        let watch = Watch::new().unwrap();
        watch.add(&path("a"), TARGET, Path::new("debug/a")).unwrap();
        watch.add(&path("b"), TARGET, Path::new("debug/b")).unwrap();
        let touched = |below: &str, is_written| {
            let below = PathBuf::from(below);
            WatchEvent::Touched { target: TARGET, below, is_written }
        };
        // Another thread may start a process, which keeps files open that this test has closed.
        let is_written = |event: &WatchEvent| matches!(event, WatchEvent::Touched { is_written: true, .. });
        let events = || -> Vec<WatchEvent> {
            watch.events().unwrap().into_iter().filter(|event| !is_written(event)).collect()
        };

        fs::hard_link(path("a/x"), path("b/y")).unwrap();
        fs::hard_link(path("a/x"), path("z")).unwrap();
        fs::remove_file(path("z")).unwrap();
        assert_eq!(events(), []);

        fs::set_permissions(path("b/y"), Permissions::from_mode(0o600)).unwrap();
        assert!(watch.wait(Duration::ZERO).unwrap());
        assert_eq!(events(), [touched("debug/b/y", false)]);
        let dated = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        File::open(path("a/x")).unwrap().set_times(dated).unwrap();
        assert_eq!(events(), [touched("debug/a/x", false)]);
        drop(File::options().write(true).open(path("b/y")).unwrap());
        let written = touched("debug/b/y", true);
        while !watch.events().unwrap().contains(&written) {
            assert!(watch.wait(Duration::from_secs(60)).unwrap());
        }

        fs::remove_dir_all(path("a")).unwrap();
        let gone = WatchEvent::Gone { target: TARGET, below: PathBuf::from("debug/a") };
        assert!(watch.events().unwrap().contains(&gone));
    }
}
