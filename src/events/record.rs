//! The records of the log and the frames around them.
//!
//! Pure. A frame is a length (u32, little-endian), a check (the first 8 bytes of the body's BLAKE3
//! hash) and the body. Invariant: a body is decoded only if its check is right, so bytes that a killed
//! writer or a power cut left behind are never misread (STO-09).

use std::time::{Duration, UNIX_EPOCH};

use kache_cas::{DigestFunction, Hash};
use kache_proto::Message as _;
use kache_proto::events::{self as wire, record};

use super::change::Change;
use super::event::{Amendment, Event, Outcome, Phase};
use super::not_stored::NotStored;
use super::reason::EventReason;

/// The longest text of an event; a longer one is cut. A path has up to 4,096 bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// The longest name or value of a change; a longer one is cut.
const CHANGE_TEXT_BYTES_MAX: usize = 1024;

/// The number of changes that are recorded. A user looks at the first few and at their number.
pub(super) const CHANGES_MAX: usize = 16;

/// The number of roots that are recorded: those that every call has, and some that the user names.
const ROOTS_MAX: usize = 12;

/// The longest name of a role, which has a few letters.
const ROLE_BYTES_MAX: usize = 64;

/// The kind of the change that says how many changes are beyond [`CHANGES_MAX`].
const MORE: &str = "more";

/// The size of the largest record. It follows from the limits above, with room to grow.
pub(super) const RECORD_BYTES_MAX: usize = 128 * 1024;

/// The size of the length and the check.
const FRAME_HEADER_BYTES: usize = 12;

/// A record of the event log in decoded form.
#[derive(Debug, PartialEq)]
pub(super) enum LogRecord {
    /// The event of a call, with the call's id.
    Call(u64, Box<Event>),
    /// An addition to the event of the call with this id.
    Amendment(u64, Amendment),
    /// A record of a later version. It is skipped and is not an error.
    Unknown,
}

/// Encodes an event as a frame.
pub(super) fn frame_call(id: u64, event: &Event) -> Vec<u8> {
    frame(record::Kind::Call(call_message(id, event)))
}

/// Encodes an amendment as a frame.
pub(super) fn frame_amendment(id: u64, amendment: &Amendment) -> Vec<u8> {
    frame(record::Kind::Amendment(wire::Amendment {
        id,
        action: hexadecimal(amendment.action),
        stored_bytes: amendment.stored_bytes,
        publish_us: micros(amendment.publish_time),
        not_stored: not_stored_text(amendment.not_stored.as_ref()),
    }))
}

fn frame(kind: record::Kind) -> Vec<u8> {
    let body = wire::Record { kind: Some(kind) }.encode_to_vec();
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
    let length = u32::try_from(body.len()).expect("every text and list in a record is bounded");
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&check(&body));
    frame.extend_from_slice(&body);
    frame
}

fn check(body: &[u8]) -> [u8; 8] {
    let hash = DigestFunction::Blake3.hash(body);
    *hash.0.first_chunk().expect("a hash has 32 bytes")
}

/// The next part of a log.
#[derive(Debug, PartialEq)]
pub(super) enum NextRecord<'a> {
    /// A record, and the bytes after it.
    Record(LogRecord, &'a [u8]),
    /// There are no more bytes.
    End,
    /// The log ends inside a record, which is being written or whose writer died.
    Torn,
    /// The bytes are no record.
    Damaged,
}

/// Reads the first frame of `bytes`.
pub(super) fn read_next(bytes: &[u8]) -> NextRecord<'_> {
    if bytes.is_empty() {
        return NextRecord::End;
    }
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return NextRecord::Torn };
    let length = u32::from_le_bytes(*length) as usize;
    if length > RECORD_BYTES_MAX {
        return NextRecord::Damaged;
    }
    let Some((expected, rest)) = rest.split_first_chunk::<8>() else { return NextRecord::Torn };
    let Some((body, rest)) = rest.split_at_checked(length) else { return NextRecord::Torn };
    if check(body) != *expected {
        return NextRecord::Damaged;
    }
    match wire::Record::decode(body) {
        Ok(record) => NextRecord::Record(log_record(record), rest),
        Err(_) => NextRecord::Damaged,
    }
}

fn log_record(record: wire::Record) -> LogRecord {
    match record.kind {
        Some(record::Kind::Call(call)) => {
            let id = call.id;
            event(call).map_or(LogRecord::Unknown, |event| LogRecord::Call(id, Box::new(event)))
        }
        Some(record::Kind::Amendment(amendment)) => LogRecord::Amendment(
            amendment.id,
            Amendment {
                action: hash(&amendment.action),
                stored_bytes: amendment.stored_bytes,
                publish_time: Duration::from_micros(amendment.publish_us),
                not_stored: NotStored::from_text(amendment.not_stored),
            },
        ),
        None => LogRecord::Unknown,
    }
}

fn call_message(id: u64, event: &Event) -> wire::Call {
    let text = |text: &str| cut(text, TEXT_BYTES_MAX);
    wire::Call {
        id,
        at_us: event.at.duration_since(UNIX_EPOCH).map_or(0, micros),
        name: text(&event.name),
        version: text(&event.version),
        kind: text(&event.kind),
        outcome: event.outcome.name().to_owned(),
        reason: text(event.reason_name()),
        detail: text(&event.detail),
        elapsed_us: micros(event.elapsed),
        phases: event.phases.iter().take(Phase::ALL.len()).map(phase_message).collect(),
        compile_us: micros(event.compile_time),
        restored_bytes: event.restored_bytes,
        shared_bytes: event.shared_bytes,
        stored_bytes: event.stored_bytes,
        compiler_runs: event.compiler_runs,
        preprocessor_runs: event.preprocessor_runs,
        probe_runs: event.probe_runs,
        query: hexadecimal(event.query),
        action: hexadecimal(event.action),
        cwd: text(&event.cwd),
        root: text(&event.root),
        changes: change_messages(&event.changes),
        nearest: hexadecimal(event.nearest),
        not_stored: not_stored_text(event.not_stored.as_ref()),
        roots: event.roots.iter().take(ROOTS_MAX).map(root_message).collect(),
        remote_trouble: text(&event.remote_trouble),
    }
}

fn root_message((role, dir): &(String, String)) -> wire::Root {
    wire::Root { role: cut(role, ROLE_BYTES_MAX), dir: cut(dir, CHANGE_TEXT_BYTES_MAX) }
}

fn phase_message((phase, took): &(Phase, Duration)) -> wire::Phase {
    wire::Phase { name: phase.name().to_owned(), took_us: micros(*took) }
}

fn change_messages(changes: &[Change]) -> Vec<wire::Change> {
    let text = |text: &String| cut(text, CHANGE_TEXT_BYTES_MAX);
    let message = |change: &Change| wire::Change {
        kind: text(&change.kind),
        name: text(&change.name),
        before: change.before.as_ref().map(text),
        now: change.now.as_ref().map(text),
    };
    let mut messages: Vec<_> = changes.iter().take(CHANGES_MAX).map(message).collect();
    if changes.len() > CHANGES_MAX {
        let name = format!("{} more", changes.len() - CHANGES_MAX);
        messages.push(wire::Change { kind: MORE.to_owned(), name, before: None, now: None });
    }
    messages
}

/// Converts a message into an event; `None` if its outcome is one of a later version.
fn event(call: wire::Call) -> Option<Event> {
    // A phase that only a later version knows is left out; the event still counts.
    let phase =
        |phase: wire::Phase| Some((Phase::from_name(&phase.name)?, Duration::from_micros(phase.took_us)));
    let change = |change: wire::Change| Change {
        kind: change.kind,
        name: change.name,
        before: change.before,
        now: change.now,
    };
    Some(Event {
        at: UNIX_EPOCH.checked_add(Duration::from_micros(call.at_us)).unwrap_or(UNIX_EPOCH),
        name: call.name,
        version: call.version,
        kind: call.kind,
        outcome: Outcome::from_name(&call.outcome)?,
        reason: EventReason::from_name(&call.reason),
        detail: call.detail,
        elapsed: Duration::from_micros(call.elapsed_us),
        phases: call.phases.into_iter().filter_map(phase).collect(),
        compile_time: Duration::from_micros(call.compile_us),
        restored_bytes: call.restored_bytes,
        shared_bytes: call.shared_bytes,
        stored_bytes: call.stored_bytes,
        compiler_runs: call.compiler_runs,
        preprocessor_runs: call.preprocessor_runs,
        probe_runs: call.probe_runs,
        query: hash(&call.query),
        action: hash(&call.action),
        cwd: call.cwd,
        root: call.root,
        changes: call.changes.into_iter().map(change).collect(),
        nearest: hash(&call.nearest),
        not_stored: NotStored::from_text(call.not_stored),
        roots: call.roots.into_iter().map(|root| (root.role, root.dir)).collect(),
        remote_trouble: call.remote_trouble,
    })
}

/// Encodes a hash; an empty text means that there is none.
fn hexadecimal(hash: Option<Hash>) -> String {
    hash.map(Hash::to_hex).unwrap_or_default()
}

/// Decodes a hash. A text that is none, which a later version may write, counts as no hash.
fn hash(text: &str) -> Option<Hash> {
    text.parse().ok()
}

fn not_stored_text(why: Option<&NotStored>) -> String {
    why.map(|why| cut(&why.to_string(), TEXT_BYTES_MAX)).unwrap_or_default()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the text, or its beginning and an ellipsis if it is longer than `bytes_max`.
fn cut(text: &str, bytes_max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

/// Returns an event in which no field is empty, for tests that no field is lost.
#[cfg(test)]
pub(super) fn full_event() -> Event {
    let text = str::to_owned;
    Event {
        at: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        name: text("serde"),
        version: text("1.0.2"),
        kind: text("lib"),
        outcome: Outcome::Miss,
        reason: EventReason::from_name("changed"),
        detail: text("`src/lib.rs` changed"),
        elapsed: Duration::from_micros(1500),
        phases: Phase::ALL.iter().zip(1..).map(|(one, n)| (*one, Duration::from_micros(n))).collect(),
        compile_time: Duration::from_millis(1400),
        restored_bytes: 1,
        shared_bytes: 2,
        stored_bytes: 3,
        compiler_runs: 4,
        preprocessor_runs: 5,
        probe_runs: 6,
        query: Some(Hash([0xaa; Hash::LEN])),
        action: Some(Hash([0xbb; Hash::LEN])),
        cwd: text("/w"),
        root: text("/w/target"),
        roots: vec![(text("out"), text("/w/target"))],
        changes: vec![Change { kind: text("env"), name: text("X"), before: None, now: Some(String::new()) }],
        nearest: Some(Hash([0xcc; Hash::LEN])),
        not_stored: Some(NotStored::Recorded(text("inputs-changed: `src/lib.rs`"))),
        remote_trouble: text("grpc://cache: no answer within 250 ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let amendment = Amendment {
            action: full_event().action,
            stored_bytes: 7,
            publish_time: Duration::from_micros(9),
            not_stored: Some(NotStored::Recorded("x".to_owned())),
        };
        let log = [frame_call(1, &full_event()), frame_amendment(1, &amendment)].concat();
        let NextRecord::Record(first, rest) = read_next(&log) else { panic!("a record was framed") };
        assert_eq!(first, LogRecord::Call(1, Box::new(full_event())));
        assert_eq!(read_next(rest), NextRecord::Record(LogRecord::Amendment(1, amendment), &[]));
        assert_eq!(read_next(&[]), NextRecord::End);
    }

    #[test]
    fn sto_09_a_part_of_a_record_is_not_read() {
        let frame = frame_call(1, &full_event());
        for length in 1..frame.len() {
            assert_eq!(read_next(&frame[..length]), NextRecord::Torn, "{length}");
        }
    }

    #[test]
    fn sto_09_a_record_with_a_wrong_bit_is_not_read() {
        let frame = frame_call(1, &full_event());
        for index in 0..frame.len() {
            let mut wrong = frame.clone();
            wrong[index] ^= 1;
            assert!(matches!(read_next(&wrong), NextRecord::Torn | NextRecord::Damaged), "{index}");
        }
        // After a power cut a filesystem may show zeros where data was not written.
        assert_eq!(read_next(&[0; 100]), NextRecord::Damaged);
    }

    #[test]
    fn a_record_of_a_later_version_is_skipped() {
        for body in [
            Vec::new(),
            // A kind of record, and then an outcome, that this version does not know.
            vec![0x1a, 0x02, 0x08, 0x01],
            wire::Record {
                kind: Some(record::Kind::Call(wire::Call {
                    outcome: "later".to_owned(),
                    ..wire::Call::default()
                })),
            }
            .encode_to_vec(),
        ] {
            let mut frame = (body.len() as u32).to_le_bytes().to_vec();
            frame.extend(check(&body));
            frame.extend(body);
            assert_eq!(read_next(&frame), NextRecord::Record(LogRecord::Unknown, &[]));
        }
    }

    #[test]
    fn records_are_bounded() {
        let long = "ü".repeat(10 * TEXT_BYTES_MAX);
        let change = Change {
            kind: long.clone(),
            name: long.clone(),
            before: Some(long.clone()),
            now: Some(long.clone()),
        };
        let mut event = Event {
            version: long.clone(),
            kind: long.clone(),
            reason: Some(EventReason::Unknown(long.clone())),
            detail: long.clone(),
            cwd: long.clone(),
            root: long.clone(),
            not_stored: Some(NotStored::Recorded(long.clone())),
            phases: vec![(Phase::Parse, Duration::MAX); 1000],
            roots: vec![(long.clone(), long.clone()); 1000],
            changes: vec![change; 1000],
            ..Event { name: long, ..full_event() }
        };
        let frame = frame_call(u64::MAX, &event);
        assert!(frame.len() <= RECORD_BYTES_MAX, "{}", frame.len());
        let NextRecord::Record(LogRecord::Call(_, read), &[]) = read_next(&frame) else {
            panic!("a record was framed")
        };
        assert_eq!(read.changes.len(), CHANGES_MAX + 1);
        assert_eq!(read.changes[CHANGES_MAX].name, "984 more");
        assert!(read.detail.ends_with('…') && read.detail.len() <= TEXT_BYTES_MAX);
        event.changes.truncate(CHANGES_MAX);
        assert_eq!(change_messages(&event.changes).len(), CHANGES_MAX);
    }
}
