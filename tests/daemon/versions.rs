//! Daemons and clients of different versions, and connections that are no client's (DMN-03).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kache_client::control::{
    Decoder, FRAME_BYTES_MAX, Hello, Refused, Reply, Welcome, decode, encode, reply, request,
};
use kache_client::{PROTOCOL, VERSION};

use crate::fake::{Fake, next};
use crate::home::{Home, eventually, is_alive};

fn welcome(version: &str) -> reply::Kind {
    reply::Kind::Welcome(Welcome { protocol: PROTOCOL, daemon_version: version.into(), pid: 1 })
}

/// Greets the real daemon with another version, and returns the reply.
fn greet(home: &Home, protocol: u32, version: &str, only_looking: bool) -> (UnixStream, reply::Kind) {
    let mut stream = UnixStream::connect(home.address().control_socket()).unwrap();
    let hello = Hello { protocol, client_version: version.into(), only_looking };
    stream.write_all(&encode(&hello).unwrap()).unwrap();
    let answer = next(&mut stream, &mut Decoder::default()).expect("it is answered");
    (stream, decode::<Reply>(&answer).unwrap().kind.unwrap())
}

#[test]
fn dmn_03_an_older_daemon_is_replaced() {
    let home = Home::new();
    let fake = Fake::take(&home.address(), welcome("0.0.1"));
    home.run(&["daemon", "start"]).expect(0, &["daemon started and replaced an older one"]);
    let stop = request::Stop { if_older_than: VERSION.to_owned() };
    assert_eq!(fake.asked()[0], request::Kind::Stop(stop));
    assert!(home.pid().is_some());
}

#[test]
fn dmn_03_an_older_daemon_of_another_protocol_is_replaced() {
    let home = Home::new();
    let greeting = Refused { protocol: 0, daemon_version: "0.0.1".into(), leaving: true };
    let fake = Fake::take(&home.address(), reply::Kind::Refused(greeting));
    home.run(&["daemon", "start"]).expect(0, &["daemon started and replaced an older one"]);
    assert_eq!(fake.asked(), []);
}

#[test]
fn dmn_06_status_commands_do_not_stop_an_older_daemon() {
    let home = Home::new();
    let fake = Fake::take(&home.address(), welcome("0.0.1"));
    // The older daemon cannot answer the request, and is not stopped.
    home.run(&["daemon", "status"]);
    home.run(&["daemon", "stop"]).expect(0, &["daemon stopped (pid 1)"]);
    let asked = fake.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(asked[0], request::Kind::Status(request::Status {}));
}

#[test]
fn dmn_03_a_newer_daemon_is_reported_and_not_stopped() {
    let home = Home::new();
    let greeting = Refused { protocol: 999, daemon_version: "9.0.0".into(), leaving: false };
    let fake = Fake::take(&home.address(), reply::Kind::Refused(greeting));
    for command in ["status", "start", "stop"] {
        home.run(&["daemon", command])
            .expect(1, &["the daemon is kache 9.0.0 and speaks protocol 999", "hint: "]);
    }
    drop(fake);
}

#[test]
fn dmn_03_a_newer_daemon_of_the_same_protocol_is_used() {
    let home = Home::new();
    let fake = Fake::take(&home.address(), welcome("9.0.0"));
    home.run(&["daemon", "stop"]).expect(0, &["daemon stopped (pid 1)"]);
    assert_eq!(fake.asked(), [request::Kind::Stop(request::Stop::default())]);
}

#[test]
fn dmn_03_the_daemon_ends_for_a_newer_client() {
    let home = Home::new();
    let pid = home.start();
    let (_stream, answer) = greet(&home, PROTOCOL + 1, "99.0.0", false);
    let refused = Refused { protocol: PROTOCOL, daemon_version: VERSION.into(), leaving: true };
    assert_eq!(answer, reply::Kind::Refused(refused));
    eventually("leaving", || !is_alive(pid));
}

#[test]
fn dmn_03_the_daemon_stays_for_an_older_client_and_for_status_requests() {
    let home = Home::new();
    let pid = home.start();
    for (protocol, version, only_looking) in [(PROTOCOL - 1, "0.0.1", false), (PROTOCOL + 1, "99.0.0", true)]
    {
        let (_stream, answer) = greet(&home, protocol, version, only_looking);
        assert!(matches!(answer, reply::Kind::Refused(refused) if !refused.leaving));
    }
    assert_eq!(home.pid(), Some(pid));
}

#[test]
fn a_connection_that_is_no_clients_gets_an_error_and_is_closed() {
    let home = Home::new();
    let pid = home.start();
    let too_large = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
    let not_hello = [0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff];
    for (bytes, words) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], "FRAME_BYTES_MAX"),
        (&too_large[..], "FRAME_BYTES_MAX"),
        (&not_hello[..], "does not hold the expected message"),
    ] {
        let mut stream = UnixStream::connect(home.address().control_socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(bytes).unwrap();
        let answer = next(&mut stream, &mut Decoder::default()).expect("it is told why");
        let reply::Kind::Failed(failed) = decode::<Reply>(&answer).unwrap().kind.unwrap() else {
            panic!("{answer:?}")
        };
        assert!(failed.message.contains(words), "{}", failed.message);
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "and nothing else");
    }
    assert_eq!(home.pid(), Some(pid));
}
