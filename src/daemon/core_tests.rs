//! The core, event by event.

use std::time::Duration;

use kache_client::control::{Failed, Hello, Refused, Request, Stopping, Welcome, reply, request};
use kache_proto::Message as _;

use super::activity::ActivityCount;
use super::core::*;

const IDLE: ActivityCount = ActivityCount { requests_in_flight: 0, requests_begun: 0, connections_open: 0 };
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn identity() -> Identity {
    Identity { protocol: 5, version: "1.5.0".into(), pid: 42 }
}

/// A daemon whose store is open.
fn serving() -> Core {
    let (mut core, first) = Core::new(identity(), Some(IDLE_TIMEOUT));
    assert_eq!(first, [Effect::OpenStore]);
    let effects = core.handle(s(0), DaemonEvent::StoreOpened);
    assert!(effects.contains(&Effect::Serve));
    core
}

fn hello(protocol: u32, version: &str, only_looking: bool) -> Vec<u8> {
    Hello { protocol, client_version: version.into(), only_looking }.encode_to_vec()
}

fn ask(kind: request::Kind) -> Vec<u8> {
    Request { kind: Some(kind) }.encode_to_vec()
}

fn stop(if_older_than: &str) -> Vec<u8> {
    ask(request::Kind::Stop(request::Stop { if_older_than: if_older_than.into() }))
}

fn welcome(id: ConnectionId) -> Effect {
    Effect::Send(id, reply::Kind::Welcome(Welcome { protocol: 5, daemon_version: "1.5.0".into(), pid: 42 }))
}

fn refused(id: ConnectionId, leaving: bool) -> Effect {
    Effect::Send(id, reply::Kind::Refused(Refused { protocol: 5, daemon_version: "1.5.0".into(), leaving }))
}

/// Connects and greets.
fn client(core: &mut Core, now: Duration, id: ConnectionId, only_looking: bool) {
    assert_eq!(core.handle(now, DaemonEvent::Connected(id)), []);
    assert_eq!(core.handle(now, DaemonEvent::Frame(id, hello(5, "1.5.0", only_looking))), [welcome(id)]);
}

fn drains(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Drain)
}

#[test]
fn a_client_is_welcomed_and_answered() {
    let mut core = serving();
    client(&mut core, s(1), 1, false);
    let status = ask(request::Kind::Status(request::Status {}));
    assert_eq!(core.handle(s(1), DaemonEvent::Frame(1, status)), [Effect::SendStatus(1)]);
    core.handle(s(1), DaemonEvent::Disconnected(1));
    assert_eq!(core.clients(), 0);
}

#[test]
fn dmn_06_fetching_a_blob_does_not_keep_the_daemon_alive() {
    let mut core = serving();
    client(&mut core, s(1), 1, true);
    let fetch = kache_client::control::Fetch { hash: vec![7; 32].into() };
    let asked = core.handle(s(500), DaemonEvent::Frame(1, ask(request::Kind::Fetch(fetch.clone()))));
    assert_eq!(asked, [Effect::Fetch(1, fetch)]);
    assert!(drains(&core.handle(IDLE_TIMEOUT, DaemonEvent::Tick(IDLE))));
}

#[test]
fn a_verify_request_is_passed_on_to_the_driver() {
    let mut core = serving();
    client(&mut core, s(1), 1, false);
    let verify = kache_client::control::Verify { action: vec![7; 32].into(), ..Default::default() };
    for is_made in [false, true] {
        let verify = kache_client::control::Verify { is_made, ..verify.clone() };
        let asked = core.handle(s(2), DaemonEvent::Frame(1, ask(request::Kind::Verify(verify.clone()))));
        assert_eq!(asked, [Effect::Verify(1, Box::new(verify))]);
    }
}

#[test]
fn a_sync_request_is_passed_on_to_the_driver() {
    let mut core = serving();
    client(&mut core, s(1), 1, false);
    let sync = kache_client::control::Sync { pull: true, ..Default::default() };
    let asked = core.handle(s(2), DaemonEvent::Frame(1, ask(request::Kind::Sync(sync.clone()))));
    assert_eq!(asked, [Effect::Sync(1, Box::new(sync))]);
}

#[test]
fn dmn_03_a_client_of_another_protocol_is_refused_and_a_newer_one_makes_the_daemon_leave() {
    for (protocol, version, only_looking, leaves) in [
        (6, "1.6.0", false, true),
        (6, "1.6.0", true, false),
        (4, "1.4.0", false, false),
        // An older program with a newer protocol number does not exist; it is not obeyed.
        (6, "1.4.0", false, false),
        (4, "garbled", false, false),
    ] {
        let mut core = serving();
        core.handle(s(1), DaemonEvent::Connected(1));
        let effects = core.handle(s(1), DaemonEvent::Frame(1, hello(protocol, version, only_looking)));
        assert_eq!(effects[..2], [refused(1, leaves), Effect::Close(1)], "{protocol} {version}");
        assert_eq!(drains(&effects), leaves, "{protocol} {version} {only_looking}");
    }
}

#[test]
fn dmn_03_a_newer_client_of_the_same_protocol_is_welcomed_and_may_stop_the_daemon() {
    let mut core = serving();
    core.handle(s(1), DaemonEvent::Connected(1));
    assert_eq!(core.handle(s(1), DaemonEvent::Frame(1, hello(5, "1.6.0", false))), [welcome(1)]);
    let effects = core.handle(s(1), DaemonEvent::Frame(1, stop("1.5.0")));
    assert!(matches!(&effects[..], [Effect::Send(1, reply::Kind::Failed(_))]), "{effects:?}");
    let effects = core.handle(s(1), DaemonEvent::Frame(1, stop("1.6.0")));
    assert_eq!(effects[0], Effect::Send(1, reply::Kind::Stopping(Stopping { pid: 42 })));
    assert!(drains(&effects));
}

#[test]
fn a_client_that_greets_while_the_daemon_leaves_is_told_so() {
    let mut core = serving();
    assert!(drains(&core.handle(s(1), DaemonEvent::Signal)));
    core.handle(s(1), DaemonEvent::Connected(1));
    let effects = core.handle(s(1), DaemonEvent::Frame(1, hello(5, "1.5.0", false)));
    assert_eq!(effects, [refused(1, true), Effect::Close(1)]);
}

#[test]
fn leaving_waits_for_served_connections_then_closes_the_store_then_exits() {
    let mut core = serving();
    assert!(drains(&core.handle(s(1), DaemonEvent::Signal)));
    assert_eq!(core.handle(s(2), DaemonEvent::Tick(IDLE)), [], "the served connections are waited for");
    assert_eq!(core.handle(s(3), DaemonEvent::ServingEnded), [Effect::CloseStore]);
    assert_eq!(*core.store(), StoreState::Closed);
    assert_eq!(core.handle(s(4), DaemonEvent::StoreClosed(None)), [Effect::Exit]);
    assert_eq!(core.handle(s(99), DaemonEvent::Tick(IDLE)), []);
}

#[test]
fn each_phase_of_leaving_ends_by_its_deadline() {
    let mut core = serving();
    core.handle(s(1), DaemonEvent::Signal);
    assert_eq!(core.handle(s(30), DaemonEvent::Tick(IDLE)), []);
    assert_eq!(core.handle(s(31), DaemonEvent::Tick(IDLE)), [Effect::CloseStore]);
    assert_eq!(core.handle(s(40), DaemonEvent::Tick(IDLE)), []);
    assert!(core.handle(s(41), DaemonEvent::Tick(IDLE)).contains(&Effect::Exit));
}

#[test]
fn a_second_signal_does_not_wait_for_requests_under_way() {
    let mut core = serving();
    core.handle(s(1), DaemonEvent::Signal);
    assert_eq!(core.handle(s(2), DaemonEvent::Signal), [Effect::CloseStore]);
}

#[test]
fn a_store_that_opens_too_late_is_closed_and_not_served() {
    let (mut core, _) = Core::new(identity(), None);
    assert!(drains(&core.handle(s(1), DaemonEvent::Signal)));
    assert_eq!(core.handle(s(2), DaemonEvent::StoreOpened), [Effect::CloseStore]);
    // A store that never opens is not waited for either.
    let (mut core, _) = Core::new(identity(), None);
    core.handle(s(1), DaemonEvent::Signal);
    assert_eq!(core.handle(s(31), DaemonEvent::Tick(IDLE)), [Effect::Exit]);
}

#[test]
fn upkeep_is_finished_before_the_store_is_closed() {
    let mut core = serving();
    assert_eq!(core.handle(s(1), DaemonEvent::Tick(IDLE)), [Effect::Upkeep]);
    core.handle(s(1), DaemonEvent::Signal);
    assert_eq!(core.handle(s(1), DaemonEvent::ServingEnded), []);
    assert_eq!(core.handle(s(2), DaemonEvent::UpkeepDone(true)), [Effect::CloseStore]);
}

#[test]
fn sto_10_upkeep_is_one_step_at_a_time() {
    let mut core = serving();
    assert_eq!(core.handle(s(1), DaemonEvent::Tick(IDLE)), [Effect::Upkeep]);
    assert_eq!(core.handle(s(5), DaemonEvent::Tick(IDLE)), [], "one is running");
    assert_eq!(core.handle(s(5), DaemonEvent::UpkeepDone(true)), [Effect::Upkeep]);
    assert_eq!(core.handle(s(5), DaemonEvent::UpkeepDone(false)), []);
    assert_eq!(core.handle(s(6), DaemonEvent::Tick(IDLE)), [Effect::Upkeep]);
    core.handle(s(6), DaemonEvent::UpkeepFailed("no disk".into()));
    assert_eq!(core.troubles(), ["no disk"]);
    assert_eq!(core.handle(s(7), DaemonEvent::Tick(IDLE)), []);
    assert_eq!(core.handle(s(16), DaemonEvent::Tick(IDLE)), [Effect::Upkeep]);
    core.handle(s(16), DaemonEvent::UpkeepDone(false));
    assert!(core.troubles().is_empty());
}

#[test]
fn sto_07_a_store_that_cannot_be_opened_is_reported_and_tried_again() {
    let (mut core, _) = Core::new(identity(), None);
    core.handle(s(1), DaemonEvent::StoreFailed("the disk is dead".into()));
    client(&mut core, s(1), 1, true);
    assert_eq!(core.troubles(), ["the disk is dead"]);
    assert_eq!(core.handle(s(2), DaemonEvent::Tick(IDLE)), []);
    assert_eq!(core.handle(s(6), DaemonEvent::Tick(IDLE)), [Effect::OpenStore]);
    assert_eq!(core.handle(s(60), DaemonEvent::Tick(IDLE)), [], "it is being tried");
    assert_eq!(core.troubles(), ["the disk is dead"]);
    assert_eq!(core.handle(s(60), DaemonEvent::StoreFailed("the disk is dead".into())), [], "logged once");
    assert_eq!(core.handle(s(65), DaemonEvent::Tick(IDLE)), [Effect::OpenStore]);
    assert!(core.handle(s(66), DaemonEvent::StoreOpened).contains(&Effect::Serve));
    assert!(core.troubles().is_empty());
}

#[test]
fn the_daemon_leaves_after_the_idle_timeout_without_a_request() {
    let mut core = serving();
    core.handle(s(1), DaemonEvent::Tick(IDLE));
    core.handle(s(1), DaemonEvent::UpkeepDone(false));
    let busy = ActivityCount { requests_in_flight: 1, requests_begun: 1, connections_open: 1 };
    assert!(!drains(&core.handle(s(599), DaemonEvent::Tick(busy))));
    let between = ActivityCount { requests_in_flight: 0, requests_begun: 7, connections_open: 1 };
    assert!(
        !drains(&core.handle(s(1100), DaemonEvent::Tick(between))),
        "requests came and went between two ticks"
    );
    assert!(!drains(&core.handle(s(1699), DaemonEvent::Tick(between))));
    assert!(drains(&core.handle(s(1700), DaemonEvent::Tick(between))), "an idle connection does not keep it");
}

#[test]
fn without_an_idle_timeout_the_daemon_stays() {
    let (mut core, _) = Core::new(identity(), None);
    core.handle(s(0), DaemonEvent::StoreOpened);
    assert!(!drains(&core.handle(s(1_000_000), DaemonEvent::Tick(IDLE))));
}

#[test]
fn dmn_06_a_client_that_only_looks_does_not_keep_the_daemon_alive() {
    let mut core = serving();
    client(&mut core, s(500), 1, true);
    let status = ask(request::Kind::Status(request::Status {}));
    core.handle(s(599), DaemonEvent::Frame(1, status));
    assert!(drains(&core.handle(s(600), DaemonEvent::Tick(IDLE))));
}

#[test]
fn a_connected_client_keeps_the_daemon_alive() {
    let mut core = serving();
    client(&mut core, s(500), 1, false);
    assert!(!drains(&core.handle(s(5_000), DaemonEvent::Tick(IDLE))));
    core.handle(s(5_000), DaemonEvent::Disconnected(1));
    assert!(!drains(&core.handle(s(5_599), DaemonEvent::Tick(IDLE))));
    assert!(drains(&core.handle(s(5_600), DaemonEvent::Tick(IDLE))));
}

#[test]
fn a_client_that_sends_garbage_gets_an_error_and_is_disconnected() {
    let mut core = serving();
    let is_dismissed = |effects: &[Effect], id| {
        matches!(effects, [Effect::Log(_), Effect::Send(to, reply::Kind::Failed(_)), Effect::Close(closed)]
            if *to == id && *closed == id)
    };
    core.handle(s(1), DaemonEvent::Connected(1));
    assert!(is_dismissed(&core.handle(s(1), DaemonEvent::Frame(1, vec![0xff; 9])), 1));
    client(&mut core, s(1), 2, false);
    assert!(is_dismissed(&core.handle(s(1), DaemonEvent::Frame(2, vec![0xff; 9])), 2));
    client(&mut core, s(1), 3, false);
    assert!(is_dismissed(&core.handle(s(1), DaemonEvent::Broken(3, "too large".into())), 3));
    assert_eq!(
        core.handle(s(1), DaemonEvent::Frame(3, stop(""))),
        [],
        "it was sent before the client noticed"
    );
    client(&mut core, s(1), 4, false);
    let effects = core.handle(s(1), DaemonEvent::Frame(4, Vec::new()));
    let message = "kache 1.5.0 does not know this request".to_owned();
    assert_eq!(effects, [Effect::Send(4, reply::Kind::Failed(Failed { message }))]);
}

#[test]
fn a_client_that_does_not_greet_is_disconnected() {
    let mut core = serving();
    core.handle(s(1), DaemonEvent::Connected(1));
    client(&mut core, s(1), 2, false);
    assert!(!core.handle(s(5), DaemonEvent::Tick(IDLE)).contains(&Effect::Close(1)));
    assert!(core.handle(s(6), DaemonEvent::Tick(IDLE)).contains(&Effect::Close(1)));
    assert_eq!(core.clients(), 1);
}

#[test]
fn the_number_of_control_connections_is_limited() {
    let mut core = serving();
    for id in 0..CONTROL_CONNECTIONS_MAX as u64 {
        assert_eq!(core.handle(s(1), DaemonEvent::Connected(id)), []);
    }
    let effects = core.handle(s(1), DaemonEvent::Connected(5000));
    assert!(matches!(&effects[1], Effect::Send(5000, reply::Kind::Failed(failed))
        if failed.message.contains("CONTROL_CONNECTIONS_MAX")));
    assert_eq!(core.clients(), CONTROL_CONNECTIONS_MAX);
}

#[test]
fn the_daemon_leaves_when_its_sockets_or_its_store_are_removed() {
    assert!(drains(&serving().handle(s(1), DaemonEvent::SocketsLost("removed".into()))));
    assert!(drains(&serving().handle(s(1), DaemonEvent::StoreLost("removed".into()))));
}

#[test]
fn sto_07_a_stuck_store_makes_the_daemon_leave_and_start_again() {
    let mut core = serving();
    assert_eq!(core.handle(s(1), DaemonEvent::Tick(IDLE)), [Effect::Upkeep]);
    let effects = core.handle(s(1), DaemonEvent::StoreStuck("no log".into()));
    assert!(effects.contains(&Effect::Drain), "{effects:?}");
    assert!(core.restarts());
    assert_eq!(core.troubles(), ["no log"], "the status shows the reason in the meantime");
    core.handle(s(2), DaemonEvent::ServingEnded);
    assert_eq!(core.handle(s(3), DaemonEvent::StoreClosed(None)), [Effect::Exit]);
}

#[test]
fn a_daemon_that_is_told_to_leave_does_not_start_again() {
    let mut told_by_signal = serving();
    told_by_signal.handle(s(1), DaemonEvent::Signal);
    told_by_signal.handle(s(2), DaemonEvent::StoreStuck("no log".into()));
    assert!(!told_by_signal.restarts());
    let mut told_while_leaving = serving();
    told_while_leaving.handle(s(1), DaemonEvent::StoreStuck("no log".into()));
    told_while_leaving.handle(s(2), DaemonEvent::Signal);
    assert!(!told_while_leaving.restarts());
}
