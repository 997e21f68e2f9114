//! Tests of the event log with real files: no event is lost or misread, and the log is bounded.

use std::collections::HashSet;
use std::time::Duration;

use kache_cas::Hash;

use super::*;
use crate::events::NotStored;
use crate::events::record::full_event;
use crate::events::{History, Outcome, Phase, read};

const SMALL: LogLimits = LogLimits { segment_bytes: 2000, log_bytes: 10_000, segments: 100 };

fn event(name: &str) -> Event {
    Event::new(UNIX_EPOCH + Duration::from_secs(1000), name, Outcome::LocalHit)
}

fn names(home: &Path) -> Vec<String> {
    let History { events, unread } = read(home, None).unwrap();
    assert_eq!(unread, []);
    events.into_iter().map(|event| event.name).collect()
}

fn files(home: &Path) -> Vec<PathBuf> {
    segment::list(&segment::directory(home)).unwrap().into_iter().map(|one| one.path).collect()
}

#[test]
fn dmn_07_an_event_can_be_read_as_soon_as_it_is_recorded() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(read(home.path(), None).unwrap(), History::default());
    let log = Log::open(home.path()).unwrap();
    assert_eq!(read(home.path(), None).unwrap(), History::default());
    log.record(&full_event()).unwrap();
    assert_eq!(read(home.path(), None).unwrap().events, [full_event()]);
}

#[test]
fn an_amendment_becomes_part_of_the_event() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(home.path()).unwrap();
    let first = log.record(&event("a")).unwrap();
    log.record(&event("b")).unwrap();
    let amendment = Amendment {
        action: Some(Hash([0xdd; Hash::LEN])),
        stored_bytes: 7,
        publish_time: Duration::from_millis(3),
        not_stored: Some(NotStored::Recorded("no".to_owned())),
    };
    log.amend(first, &amendment).unwrap();
    let events = read(home.path(), None).unwrap().events;
    let expected = Event {
        action: Some(Hash([0xdd; Hash::LEN])),
        stored_bytes: 7,
        phases: vec![(Phase::Publish, Duration::from_millis(3))],
        not_stored: Some(NotStored::Recorded("no".to_owned())),
        ..event("a")
    };
    assert_eq!(events, [expected, event("b")]);
}

#[test]
fn since_includes_events_of_that_very_moment() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(home.path()).unwrap();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    for seconds in [10, 20, 30] {
        let call = log.record(&Event { at: at(seconds), ..event(&seconds.to_string()) }).unwrap();
        log.amend(call, &Amendment { stored_bytes: seconds, ..Amendment::default() }).unwrap();
    }
    let events = read(home.path(), Some(at(20))).unwrap().events;
    let kept: Vec<_> = events.iter().map(|event| (&*event.name, event.stored_bytes)).collect();
    assert_eq!(kept, [("20", 20), ("30", 30)]);
}

#[test]
fn dmn_06_events_survive_restarts_and_a_restart_creates_no_file() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        Log::open(home.path()).unwrap().record(&event(name)).unwrap();
    }
    assert_eq!(names(home.path()), ["a", "b", "c"]);
    assert_eq!(files(home.path()).len(), 1);
}

#[test]
fn dmn_06_reading_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    read(home.path(), None).unwrap();
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    Log::open(home.path()).unwrap().record(&event("a")).unwrap();
    let path = files(home.path()).remove(0);
    let before = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    read(home.path(), None).unwrap();
    assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap()), before);
}

/// A writer that is killed leaves any part of its last record behind.
#[test]
fn sto_09_a_torn_record_does_not_hide_later_ones() {
    let home = tempfile::tempdir().unwrap();
    Log::open(home.path()).unwrap().record(&event("a")).unwrap();
    let path = files(home.path()).remove(0);
    let torn = record::frame_call(9, &event("torn"));
    for length in [1, 11, 12, torn.len() - 1] {
        let mut file = OpenOptions::new().append(true).open(files(home.path()).last().unwrap()).unwrap();
        file.write_all(&torn[..length]).unwrap();
        Log::open(home.path()).unwrap().record(&event(&length.to_string())).unwrap();
    }
    let mut expected = vec!["a".to_owned()];
    expected.extend([1, 11, 12, torn.len() - 1].map(|length| length.to_string()));
    assert_eq!(names(home.path()), expected);
    // The first file was not written again.
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.last(), Some(&torn[0]));
}

#[test]
fn sto_09_files_of_other_versions_are_not_changed_and_are_reported() {
    let home = tempfile::tempdir().unwrap();
    let directory = segment::directory(home.path());
    fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let mut file = File::create(directory.join(name)).unwrap();
        file.write_all(bytes).unwrap();
    };
    write("00000001.events", b"kache events 7\nwho knows what");
    write("00000002.events", b"something else");
    write("00000003.events", b"kache ev");
    let log = Log::open(home.path()).unwrap();
    log.record(&event("a")).unwrap();
    let history = read(home.path(), None).unwrap();
    assert_eq!(history.events, [event("a")]);
    let unread: Vec<_> = history.unread.iter().map(|unread| &*unread.why).collect();
    assert_eq!(unread, ["it has format 7, this kache reads format 1", "it is no event log"]);
    assert_eq!(fs::read(directory.join("00000001.events")).unwrap(), b"kache events 7\nwho knows what");
}

#[test]
fn sto_09_damage_is_reported_and_the_records_before_it_are_read() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(home.path()).unwrap();
    for name in ["a", "b", "c"] {
        log.record(&event(name)).unwrap();
    }
    let path = files(home.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let frame = record::frame_call(1, &event("a")).len();
    let middle = segment::header().len() + frame + frame / 2;
    bytes[middle] ^= 0xff;
    File::create(&path).unwrap().write_all(&bytes).unwrap();
    let history = read(home.path(), None).unwrap();
    assert_eq!(history.events, [event("a")]);
    assert_eq!(history.unread.len(), 1);
    assert!(history.unread[0].why.contains("damaged"), "{:?}", history.unread);
}

#[test]
fn the_log_is_bounded_and_the_newest_events_stay() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open_with(home.path(), SMALL).unwrap();
    for number in 0..1000 {
        log.record(&event(&number.to_string())).unwrap();
        let bytes: u64 = files(home.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes <= SMALL.log_bytes, "{bytes}");
    }
    let kept: Vec<u64> = names(home.path()).iter().map(|name| name.parse().unwrap()).collect();
    assert_eq!(*kept.last().unwrap(), 999);
    assert!(kept.len() > 50 && kept.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{kept:?}");
}

#[test]
fn the_number_of_files_is_bounded() {
    let home = tempfile::tempdir().unwrap();
    let limits = LogLimits { segments: 3, ..SMALL };
    let _all: Vec<Log> = (0..9).map(|_| Log::open_with(home.path(), limits).unwrap()).collect();
    assert_eq!(files(home.path()).len(), 3);
}

#[test]
fn two_writers_do_not_mix_their_records() {
    let home = tempfile::tempdir().unwrap();
    let logs = [Log::open(home.path()).unwrap(), Log::open(home.path()).unwrap()];
    std::thread::scope(|scope| {
        for log in &logs {
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..100 {
                        log.record(&event("x")).unwrap();
                    }
                });
            }
        }
    });
    assert_eq!(names(home.path()).len(), 400);
    assert_eq!(files(home.path()).len(), 2);
}

#[test]
fn every_call_has_an_id_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(home.path()).unwrap();
    let ids: HashSet<_> = (0..1000).map(|_| log.record(&event("x")).unwrap()).collect();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn a_reader_sees_whole_records_in_order_while_the_log_is_written() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open_with(home.path(), LogLimits { log_bytes: u64::MAX, ..SMALL }).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..500 {
                log.record(&event(&number.to_string())).unwrap();
            }
        });
        while !writer.is_finished() {
            let read = names(home.path());
            let expected: Vec<_> = (0..read.len()).map(|number| number.to_string()).collect();
            assert_eq!(read, expected);
        }
    });
}

#[test]
fn a_log_whose_directory_is_deleted_is_created_again() {
    let home = tempfile::tempdir().unwrap();
    let log = Log::open(home.path()).unwrap();
    log.record(&event("a")).unwrap();
    fs::remove_dir_all(segment::directory(home.path())).unwrap();
    log.record(&event("b")).unwrap();
    assert_eq!(names(home.path()), ["b"]);
}

#[test]
fn other_users_cannot_read_the_log() {
    let home = tempfile::tempdir().unwrap();
    let _log = Log::open(home.path()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&segment::directory(home.path())), DIRECTORY_MODE);
    assert_eq!(mode(&files(home.path())[0]), FILE_MODE);
}
