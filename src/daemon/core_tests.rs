//! The core, event by event.

use std::time::Duration;

use kache_client::control::{Failed, Hello, Refused, Request, Stopping, Welcome, reply, request};
use kache_proto::Message as _;

use super::activity::ActivityCount;
use super::core::*;

const NOBODY: ActivityCount = ActivityCount { requests_in_flight: 0, requests_begun: 0, connections_open: 0 };
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
    let effects = core.handle(s(0), Event::StoreOpened);
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
    assert_eq!(core.handle(now, Event::Connected(id)), []);
    assert_eq!(core.handle(now, Event::Frame(id, hello(5, "1.5.0", only_looking))), [welcome(id)]);
}

fn drains(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Drain)
}

#[test]
fn a_client_is_welcomed_and_answered() {
    let mut core = serving();
    client(&mut core, s(1), 1, false);
    let status = ask(request::Kind::Status(request::Status {}));
    assert_eq!(core.handle(s(1), Event::Frame(1, status)), [Effect::SendStatus(1)]);
    core.handle(s(1), Event::Disconnected(1));
    assert_eq!(core.clients(), 0);
}

#[test]
fn dmn_06_who_asks_for_a_blob_does_not_keep_the_daemon() {
    let mut core = serving();
    client(&mut core, s(1), 1, true);
    let fetch = kache_client::control::Fetch { hash: vec![7; 32].into() };
    let asked = core.handle(s(500), Event::Frame(1, ask(request::Kind::Fetch(fetch.clone()))));
    assert_eq!(asked, [Effect::Fetch(1, fetch)]);
    assert!(drains(&core.handle(IDLE_TIMEOUT, Event::Tick(NOBODY))));
}

#[test]
fn who_asks_what_to_compile_once_more_hears_it_from_elsewhere() {
    let mut core = serving();
    client(&mut core, s(1), 1, false);
    let verify = kache_client::control::Verify { action: vec![7; 32].into(), ..Default::default() };
    for is_made in [false, true] {
        let verify = kache_client::control::Verify { is_made, ..verify.clone() };
        let asked = core.handle(s(2), Event::Frame(1, ask(request::Kind::Verify(verify.clone()))));
        assert_eq!(asked, [Effect::Verify(1, Box::new(verify))]);
    }
}

#[test]
fn dmn_03_versions_that_do_not_understand_one_another_part() {
    for (protocol, version, only_looking, leaves) in [
        (6, "1.6.0", false, true),
        (6, "1.6.0", true, false),
        (4, "1.4.0", false, false),
        // An older program with a newer protocol number does not exist; it is not obeyed.
        (6, "1.4.0", false, false),
        (4, "garbled", false, false),
    ] {
        let mut core = serving();
        core.handle(s(1), Event::Connected(1));
        let effects = core.handle(s(1), Event::Frame(1, hello(protocol, version, only_looking)));
        assert_eq!(effects[..2], [refused(1, leaves), Effect::Close(1)], "{protocol} {version}");
        assert_eq!(drains(&effects), leaves, "{protocol} {version} {only_looking}");
    }
}

#[test]
fn dmn_03_a_newer_client_of_the_same_protocol_is_welcome_and_may_ask_it_to_leave() {
    let mut core = serving();
    core.handle(s(1), Event::Connected(1));
    assert_eq!(core.handle(s(1), Event::Frame(1, hello(5, "1.6.0", false))), [welcome(1)]);
    let effects = core.handle(s(1), Event::Frame(1, stop("1.5.0")));
    assert!(matches!(&effects[..], [Effect::Send(1, reply::Kind::Failed(_))]), "{effects:?}");
    let effects = core.handle(s(1), Event::Frame(1, stop("1.6.0")));
    assert_eq!(effects[0], Effect::Send(1, reply::Kind::Stopping(Stopping { pid: 42 })));
    assert!(drains(&effects));
}

#[test]
fn whoever_comes_while_it_leaves_is_told() {
    let mut core = serving();
    assert!(drains(&core.handle(s(1), Event::Signal)));
    core.handle(s(1), Event::Connected(1));
    let effects = core.handle(s(1), Event::Frame(1, hello(5, "1.5.0", false)));
    assert_eq!(effects, [refused(1, true), Effect::Close(1)]);
}

#[test]
fn leaving_goes_step_by_step() {
    let mut core = serving();
    assert!(drains(&core.handle(s(1), Event::Signal)));
    assert_eq!(core.handle(s(2), Event::Tick(NOBODY)), [], "the served connections are waited for");
    assert_eq!(core.handle(s(3), Event::ServingEnded), [Effect::CloseStore]);
    assert_eq!(*core.store(), StoreState::Closed);
    assert_eq!(core.handle(s(4), Event::StoreClosed(None)), [Effect::Exit]);
    assert_eq!(core.handle(s(99), Event::Tick(NOBODY)), []);
}

#[test]
fn each_step_of_leaving_ends_by_itself() {
    let mut core = serving();
    core.handle(s(1), Event::Signal);
    assert_eq!(core.handle(s(30), Event::Tick(NOBODY)), []);
    assert_eq!(core.handle(s(31), Event::Tick(NOBODY)), [Effect::CloseStore]);
    assert_eq!(core.handle(s(40), Event::Tick(NOBODY)), []);
    assert!(core.handle(s(41), Event::Tick(NOBODY)).contains(&Effect::Exit));
}

#[test]
fn a_second_signal_waits_for_nobody() {
    let mut core = serving();
    core.handle(s(1), Event::Signal);
    assert_eq!(core.handle(s(2), Event::Signal), [Effect::CloseStore]);
}

#[test]
fn a_store_that_opens_too_late_is_closed_and_not_served() {
    let (mut core, _) = Core::new(identity(), None);
    assert!(drains(&core.handle(s(1), Event::Signal)));
    assert_eq!(core.handle(s(2), Event::StoreOpened), [Effect::CloseStore]);
    // One that never opens is not waited for either.
    let (mut core, _) = Core::new(identity(), None);
    core.handle(s(1), Event::Signal);
    assert_eq!(core.handle(s(31), Event::Tick(NOBODY)), [Effect::Exit]);
}

#[test]
fn upkeep_is_finished_before_the_store_is_closed() {
    let mut core = serving();
    assert_eq!(core.handle(s(1), Event::Tick(NOBODY)), [Effect::Upkeep]);
    core.handle(s(1), Event::Signal);
    assert_eq!(core.handle(s(1), Event::ServingEnded), []);
    assert_eq!(core.handle(s(2), Event::UpkeepDone(true)), [Effect::CloseStore]);
}

#[test]
fn sto_10_upkeep_is_one_step_at_a_time() {
    let mut core = serving();
    assert_eq!(core.handle(s(1), Event::Tick(NOBODY)), [Effect::Upkeep]);
    assert_eq!(core.handle(s(5), Event::Tick(NOBODY)), [], "one is running");
    assert_eq!(core.handle(s(5), Event::UpkeepDone(true)), [Effect::Upkeep]);
    assert_eq!(core.handle(s(5), Event::UpkeepDone(false)), []);
    assert_eq!(core.handle(s(6), Event::Tick(NOBODY)), [Effect::Upkeep]);
    core.handle(s(6), Event::UpkeepFailed("no disk".into()));
    assert_eq!(core.troubles(), ["no disk"]);
    assert_eq!(core.handle(s(7), Event::Tick(NOBODY)), []);
    assert_eq!(core.handle(s(16), Event::Tick(NOBODY)), [Effect::Upkeep]);
    core.handle(s(16), Event::UpkeepDone(false));
    assert!(core.troubles().is_empty());
}

#[test]
fn sto_07_a_store_that_cannot_be_opened_is_named_and_tried_again() {
    let (mut core, _) = Core::new(identity(), None);
    core.handle(s(1), Event::StoreFailed("the disk is dead".into()));
    client(&mut core, s(1), 1, true);
    assert_eq!(core.troubles(), ["the disk is dead"]);
    assert_eq!(core.handle(s(2), Event::Tick(NOBODY)), []);
    assert_eq!(core.handle(s(6), Event::Tick(NOBODY)), [Effect::OpenStore]);
    assert_eq!(core.handle(s(60), Event::Tick(NOBODY)), [], "it is being tried");
    assert_eq!(core.troubles(), ["the disk is dead"]);
    assert_eq!(core.handle(s(60), Event::StoreFailed("the disk is dead".into())), [], "said once");
    assert_eq!(core.handle(s(65), Event::Tick(NOBODY)), [Effect::OpenStore]);
    assert!(core.handle(s(66), Event::StoreOpened).contains(&Effect::Serve));
    assert!(core.troubles().is_empty());
}

#[test]
fn idle_means_no_request_for_so_long() {
    let mut core = serving();
    core.handle(s(1), Event::Tick(NOBODY));
    core.handle(s(1), Event::UpkeepDone(false));
    let busy = ActivityCount { requests_in_flight: 1, requests_begun: 1, connections_open: 1 };
    assert!(!drains(&core.handle(s(599), Event::Tick(busy))));
    let between = ActivityCount { requests_in_flight: 0, requests_begun: 7, connections_open: 1 };
    assert!(!drains(&core.handle(s(1100), Event::Tick(between))), "requests came and went between two ticks");
    assert!(!drains(&core.handle(s(1699), Event::Tick(between))));
    assert!(drains(&core.handle(s(1700), Event::Tick(between))), "an idle connection does not keep it");
}

#[test]
fn idle_may_mean_never() {
    let (mut core, _) = Core::new(identity(), None);
    core.handle(s(0), Event::StoreOpened);
    assert!(!drains(&core.handle(s(1_000_000), Event::Tick(NOBODY))));
}

#[test]
fn dmn_06_looking_does_not_keep_it() {
    let mut core = serving();
    client(&mut core, s(500), 1, true);
    let status = ask(request::Kind::Status(request::Status {}));
    core.handle(s(599), Event::Frame(1, status));
    assert!(drains(&core.handle(s(600), Event::Tick(NOBODY))));
}

#[test]
fn somebody_at_work_keeps_it() {
    let mut core = serving();
    client(&mut core, s(500), 1, false);
    assert!(!drains(&core.handle(s(5_000), Event::Tick(NOBODY))));
    core.handle(s(5_000), Event::Disconnected(1));
    assert!(!drains(&core.handle(s(5_599), Event::Tick(NOBODY))));
    assert!(drains(&core.handle(s(5_600), Event::Tick(NOBODY))));
}

#[test]
fn garbage_is_answered_and_dismissed() {
    let mut core = serving();
    let is_dismissed = |effects: &[Effect], id| {
        matches!(effects, [Effect::Note(_), Effect::Send(to, reply::Kind::Failed(_)), Effect::Close(closed)]
            if *to == id && *closed == id)
    };
    core.handle(s(1), Event::Connected(1));
    assert!(is_dismissed(&core.handle(s(1), Event::Frame(1, vec![0xff; 9])), 1));
    client(&mut core, s(1), 2, false);
    assert!(is_dismissed(&core.handle(s(1), Event::Frame(2, vec![0xff; 9])), 2));
    client(&mut core, s(1), 3, false);
    assert!(is_dismissed(&core.handle(s(1), Event::Broken(3, "too large".into())), 3));
    assert_eq!(core.handle(s(1), Event::Frame(3, stop(""))), [], "what it wrote before it noticed");
    client(&mut core, s(1), 4, false);
    let effects = core.handle(s(1), Event::Frame(4, Vec::new()));
    let message = "kache 1.5.0 does not know this request".to_owned();
    assert_eq!(effects, [Effect::Send(4, reply::Kind::Failed(Failed { message }))]);
}

#[test]
fn those_who_say_nothing_are_dismissed() {
    let mut core = serving();
    core.handle(s(1), Event::Connected(1));
    client(&mut core, s(1), 2, false);
    assert!(!core.handle(s(5), Event::Tick(NOBODY)).contains(&Effect::Close(1)));
    assert!(core.handle(s(6), Event::Tick(NOBODY)).contains(&Effect::Close(1)));
    assert_eq!(core.clients(), 1);
}

#[test]
fn a_flood_meets_the_limit() {
    let mut core = serving();
    for id in 0..CONTROL_CONNECTIONS_MAX as u64 {
        assert_eq!(core.handle(s(1), Event::Connected(id)), []);
    }
    let effects = core.handle(s(1), Event::Connected(5000));
    assert!(matches!(&effects[1], Effect::Send(5000, reply::Kind::Failed(failed))
        if failed.message.contains("CONTROL_CONNECTIONS_MAX")));
    assert_eq!(core.clients(), CONTROL_CONNECTIONS_MAX);
}

#[test]
fn a_door_that_is_lost_means_leaving() {
    assert!(drains(&serving().handle(s(1), Event::DoorLost("removed".into()))));
    assert!(drains(&serving().handle(s(1), Event::StoreLost("removed".into()))));
}

#[test]
fn sto_07_a_stuck_store_takes_the_daemon_with_it_and_another_begins() {
    let mut core = serving();
    assert_eq!(core.handle(s(1), Event::Tick(NOBODY)), [Effect::Upkeep]);
    let effects = core.handle(s(1), Event::StoreStuck("no log".into()));
    assert!(effects.contains(&Effect::Drain), "{effects:?}");
    assert!(core.begins_again());
    assert_eq!(core.troubles(), ["no log"], "whoever asks meanwhile hears why");
    core.handle(s(2), Event::ServingEnded);
    assert_eq!(core.handle(s(3), Event::StoreClosed(None)), [Effect::Exit]);
}

#[test]
fn a_daemon_that_is_told_to_leave_does_not_begin_again() {
    let mut told_by_signal = serving();
    told_by_signal.handle(s(1), Event::Signal);
    told_by_signal.handle(s(2), Event::StoreStuck("no log".into()));
    assert!(!told_by_signal.begins_again());
    let mut told_while_leaving = serving();
    told_while_leaving.handle(s(1), Event::StoreStuck("no log".into()));
    told_while_leaving.handle(s(2), Event::Signal);
    assert!(!told_while_leaving.begins_again());
}
