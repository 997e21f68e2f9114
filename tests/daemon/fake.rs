//! A fake daemon, which sends the replies that a test wants.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use kache_client::DaemonAddress;
use kache_client::control::{Decoder, Hello, Reply, Request, decode, encode, reply, request};
use kache_client::os::{self, Lock};

/// A fake daemon that serves one client after another.
pub(crate) struct Fake {
    thread: JoinHandle<Vec<request::Kind>>,
}

impl Fake {
    /// Listens at a daemon's address. It greets with `greeting`, replies `Stopping` to a stop request, and then
    /// ends. Its result is the list of requests.
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

    /// Waits until the fake daemon has ended, and returns the requests that it got.
    pub(crate) fn asked(self) -> Vec<request::Kind> {
        self.thread.join().unwrap()
    }
}

/// Serves one client. Returns whether it got a stop request.
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
    // A client that does not need the rest may have disconnected.
    let _ = stream.write_all(&encode(&Reply { kind: Some(kind) }).unwrap());
}

/// The next frame. `None` if the client has disconnected.
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
