//! A daemon that is not one: it says what a test wants said.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use kache_client::DaemonAddress;
use kache_client::control::{Decoder, Hello, Reply, Request, decode, encode, reply, request};
use kache_client::os::{self, Lock};

/// Somebody in a daemon's place, who answers one client after another.
pub(crate) struct Fake {
    thread: JoinHandle<Vec<request::Kind>>,
}

impl Fake {
    /// Takes a place. It greets with `greeting`, says `Stopping` when it is told to stop, and
    /// is then gone. What it was asked is its result.
    pub(crate) fn take(address: &DaemonAddress, greeting: reply::Kind) -> Fake {
        address.prepare().unwrap();
        let lock = Lock::take(&address.daemon_lock()).unwrap();
        let listener = os::listen(&address.control_socket()).unwrap();
        let socket = address.control_socket();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for stream in listener.incoming() {
                let is_over = serve(stream.unwrap(), &greeting, &mut asked);
                if is_over {
                    break;
                }
            }
            std::fs::remove_file(socket).unwrap();
            drop(lock);
            asked
        });
        Fake { thread }
    }

    /// Waits until it is gone; what it was asked.
    pub(crate) fn asked(self) -> Vec<request::Kind> {
        self.thread.join().unwrap()
    }
}

/// Serves one client; whether it was told to stop.
fn serve(mut stream: UnixStream, greeting: &reply::Kind, asked: &mut Vec<request::Kind>) -> bool {
    let mut decoder = Decoder::default();
    let Some(hello) = next(&mut stream, &mut decoder) else { return false };
    decode::<Hello>(&hello).unwrap();
    say(&mut stream, greeting.clone());
    if matches!(greeting, reply::Kind::Refused(refused) if refused.leaving) {
        return true;
    }
    while let Some(frame) = next(&mut stream, &mut decoder) {
        let kind = decode::<Request>(&frame).unwrap().kind.unwrap();
        let is_stop = matches!(kind, request::Kind::Stop(_));
        asked.push(kind);
        if is_stop {
            say(&mut stream, reply::Kind::Stopping(kache_client::control::Stopping { pid: 1 }));
            return true;
        }
    }
    false
}

pub(crate) fn say(stream: &mut UnixStream, kind: reply::Kind) {
    // A client that has heard enough may be gone.
    let _ = stream.write_all(&encode(&Reply { kind: Some(kind) }).unwrap());
}

/// The next frame; `None` when the client is gone.
pub(crate) fn next(stream: &mut UnixStream, decoder: &mut Decoder) -> Option<Vec<u8>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Some(frame);
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(len) => decoder.push(&chunk[..len]),
        }
    }
}
