//! A TCP relay between a client and the server. It counts bytes, and runs an action after a given number, so that a
//! test can kill the server in the middle of a transfer every time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

/// The direction of the bytes that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Upload,
    /// From the server to the client.
    Download,
}

/// The action, and after how many more bytes it runs.
struct Trap {
    direction: Direction,
    bytes_left: usize,
    action: Box<dyn FnOnce() + Send>,
}

/// The state that the threads of all connections share.
#[derive(Default)]
struct Shared {
    armed: Mutex<Option<Trap>>,
    uploaded: AtomicUsize,
    downloaded: AtomicUsize,
}

/// The relay. Its threads run until the test's process ends.
pub(crate) struct Chokepoint {
    port: u16,
    shared: Arc<Shared>,
}

impl Chokepoint {
    /// Starts a relay to a port of this machine.
    pub(crate) fn before(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::<Shared>::default();
        let counts = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // If the server cannot be reached, the client's connection ends, as it would without a relay.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { continue };
                relay(&client, &server, Direction::Upload, &counts);
                relay(&server, &client, Direction::Download, &counts);
            }
        });
        Chokepoint { port, shared }
    }

    /// The port to which clients connect.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs `action` after this many more bytes.
    pub(crate) fn arm(&self, direction: Direction, bytes: usize, action: impl FnOnce() + Send + 'static) {
        let trap = Trap { direction, bytes_left: bytes, action: Box::new(action) };
        *self.shared.armed.lock() = Some(trap);
    }

    /// The number of bytes that have passed in one direction.
    pub(crate) fn passed(&self, direction: Direction) -> usize {
        self.shared.passed(direction).load(Ordering::Relaxed)
    }

    /// Whether the action has run.
    pub(crate) fn has_sprung(&self) -> bool {
        self.shared.armed.lock().is_none()
    }
}

/// Copies in one direction on a new thread until either side ends.
fn relay(from: &TcpStream, to: &TcpStream, direction: Direction, shared: &Arc<Shared>) {
    // Delaying small packets would make the relay slower than a real network.
    let pair = || {
        to.set_nodelay(true)?;
        io::Result::Ok((from.try_clone()?, to.try_clone()?))
    };
    let Ok((mut from, mut to)) = pair() else { return };
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len) = from.read(&mut buffer) {
            if len == 0 || to.write_all(&buffer[..len]).is_err() {
                break;
            }
            shared.count(direction, len);
        }
        // Both directions are closed, so that the other thread ends, too.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

impl Shared {
    fn passed(&self, direction: Direction) -> &AtomicUsize {
        match direction {
            Direction::Upload => &self.uploaded,
            Direction::Download => &self.downloaded,
        }
    }

    fn count(&self, direction: Direction, bytes: usize) {
        self.passed(direction).fetch_add(bytes, Ordering::Relaxed);
        let mut armed = self.armed.lock();
        let Some(trap) = armed.as_mut().filter(|trap| trap.direction == direction) else { return };
        trap.bytes_left = trap.bytes_left.saturating_sub(bytes);
        if trap.bytes_left == 0 {
            // The action runs under the lock, so that a thread that sees the flag also sees the action's effect.
            let trap = armed.take().expect("it is some, as checked above");
            (trap.action)();
        }
    }
}
