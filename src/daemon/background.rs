//! Runs work on a thread that gives way to builds.
//!
//! Compressing and sending results takes processor time from the compilers of the same build. On Linux the thread has
//! a lower priority, and so have all threads that it starts.

use std::io;
use std::thread;

/// How much the thread gives way: next to a compiler on the same processor it gets about a tenth of the time. With
/// less, a thread that holds a lock could keep a call waiting for too long.
#[cfg(target_os = "linux")]
const NICENESS: libc::c_int = 10;

/// Runs a future to its end, on a thread of its own with a runtime of its own. An error means that the thread could
/// not be started.
pub(super) fn run(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        lower_priority();
        runtime.block_on(work);
        // What still blocks on a dead disk must not keep this thread.
        runtime.shutdown_background();
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

#[cfg(target_os = "linux")]
fn lower_priority() {
    // SAFETY: the call reads and writes no memory. On Linux it concerns the calling thread only.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) } != 0 {
        tracing::debug!("a thread keeps its priority: {}", io::Error::last_os_error());
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// The niceness of the calling thread.
    fn niceness() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The name of the thread may have spaces; the fields after it do not.
        let fields = stat.rsplit_once(") ").unwrap().1;
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn net_04_work_in_the_background_and_its_threads_give_way_to_builds() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let before = niceness();
        run("test", async move {
            let of_blocking = tokio::task::spawn_blocking(niceness).await.unwrap();
            sender.send((niceness(), of_blocking)).unwrap();
        })
        .unwrap();
        let lowered = receiver.recv().unwrap();
        assert_eq!(lowered, (i64::from(NICENESS).max(before), i64::from(NICENESS).max(before)));
        assert_eq!(niceness(), before, "the other threads keep their priority");
    }
}
