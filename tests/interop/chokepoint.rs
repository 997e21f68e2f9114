//! A TCP relay between a client and the server which counts bytes, and does something when
//! it has counted enough: how a server is killed in the middle of a transfer, every time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Which way the bytes go that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Upload,
    /// From the server to the client.
    Download,
}

/// What is to happen, and after how many bytes more.
struct Trap {
    direction: Direction,
    bytes_left: usize,
    action: Box<dyn FnOnce() + Send>,
}

/// What the threads of all connections share.
#[derive(Default)]
struct Shared {
    armed: Mutex<Option<Trap>>,
    uploaded: AtomicUsize,
    downloaded: AtomicUsize,
}

/// The relay. Its threads end with the test's process.
pub(crate) struct Chokepoint {
    port: u16,
    shared: Arc<Shared>,
}

impl Chokepoint {
    /// Relays to a port of this machine.
    pub(crate) fn before(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let shared = Arc::<Shared>::default();
        let counts = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a server the client sees its connection end, as it would.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { continue };
                relay(&client, &server, Direction::Upload, &counts);
                relay(&server, &client, Direction::Download, &counts);
            }
        });
        Chokepoint { port, shared }
    }

    /// Where clients connect.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Does `action` once that many bytes have passed, from now on.
    pub(crate) fn arm(&self, direction: Direction, bytes: usize, action: impl FnOnce() + Send + 'static) {
        let trap = Trap { direction, bytes_left: bytes, action: Box::new(action) };
        *self.shared.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }

    /// How many bytes went that way until now.
    pub(crate) fn passed(&self, direction: Direction) -> usize {
        self.shared.passed(direction).load(Ordering::Relaxed)
    }

    /// Whether the action was done.
    pub(crate) fn has_sprung(&self) -> bool {
        self.shared.armed.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Copies one way, on a thread, until either side ends.
fn relay(from: &TcpStream, to: &TcpStream, direction: Direction, shared: &Arc<Shared>) {
    // A relay that holds back small packets would be a slower network than any.
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
        // Both, so that the other thread ends too.
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
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(trap) = armed.as_mut().filter(|trap| trap.direction == direction) else { return };
        trap.bytes_left = trap.bytes_left.saturating_sub(bytes);
        if trap.bytes_left == 0 {
            // Under the lock: whoever sees that it has sprung also sees what it did.
            let trap = armed.take().expect("it was there a line ago");
            (trap.action)();
        }
    }
}
