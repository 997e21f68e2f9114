//! Records of the log: messages, and the frames around them.
//!
//! Pure. A frame is a length (u32), a check (the first 8 bytes of the BLAKE3 of the body)
//! and the body, all little-endian. Invariant: a body is decoded only if its check agrees,
//! so what a killed writer or a lost cache left behind is never misread (STO-09).

use std::time::{Duration, UNIX_EPOCH};

use kache_cas::DigestFunction;
use kache_proto::Message as _;
use kache_proto::events::{self as wire, record};

use super::change::Change;
use super::event::{Amendment, Event, Outcome, Phase};

/// Longer texts are cut: a path may be 4,096 bytes long, and a detail is a sentence.
const TEXT_BYTES_MAX: usize = 4096;

/// The same for the names and values of changes, of which there are several.
const CHANGE_TEXT_BYTES_MAX: usize = 1024;

/// How many changes are kept. Who changed more wants the first few, and their number.
pub(super) const CHANGES_MAX: usize = 16;

/// How many roots are kept: those that every call has, and some that are named by the user.
const ROOTS_MAX: usize = 12;

/// Their names have a few letters.
const ROLE_BYTES_MAX: usize = 64;

/// The kind of the change that stands for those beyond [`CHANGES_MAX`].
const MORE: &str = "more";

/// No record is larger; follows from the limits above, with room to grow.
pub(super) const RECORD_BYTES_MAX: usize = 128 * 1024;

/// Length and check.
const FRAME_HEADER_BYTES: usize = 12;

/// One record, decoded.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// A call.
    Call(u64, Box<Event>),
    /// What became of one.
    Amendment(u64, Amendment),
    /// Something that this version does not know; not an error.
    Unknown,
}

/// A call as a frame.
pub(super) fn frame_call(id: u64, event: &Event) -> Vec<u8> {
    frame(record::Kind::Call(call_message(id, event)))
}

/// An amendment as a frame.
pub(super) fn frame_amendment(id: u64, amendment: &Amendment) -> Vec<u8> {
    frame(record::Kind::Amendment(wire::Amendment {
        id,
        action: cut(&amendment.action, TEXT_BYTES_MAX),
        stored_bytes: amendment.stored_bytes,
        publish_us: micros(amendment.publish_time),
        not_stored: cut(&amendment.not_stored, TEXT_BYTES_MAX),
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

/// What follows in a log.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    /// A record, and what stands behind it.
    Record(Record, &'a [u8]),
    /// Nothing more.
    End,
    /// The beginning of a record: it is being written, or its writer died.
    Torn,
    /// Bytes that are no record.
    Damaged,
}

/// Reads one frame.
pub(super) fn next(bytes: &[u8]) -> Next<'_> {
    if bytes.is_empty() {
        return Next::End;
    }
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Next::Torn };
    let length = u32::from_le_bytes(*length) as usize;
    if length > RECORD_BYTES_MAX {
        return Next::Damaged;
    }
    let Some((expected, rest)) = rest.split_first_chunk::<8>() else { return Next::Torn };
    let Some((body, rest)) = rest.split_at_checked(length) else { return Next::Torn };
    if check(body) != *expected {
        return Next::Damaged;
    }
    match wire::Record::decode(body) {
        Ok(record) => Next::Record(understood(record), rest),
        Err(_) => Next::Damaged,
    }
}

fn understood(record: wire::Record) -> Record {
    match record.kind {
        Some(record::Kind::Call(call)) => {
            let id = call.id;
            event(call).map_or(Record::Unknown, |event| Record::Call(id, Box::new(event)))
        }
        Some(record::Kind::Amendment(amendment)) => Record::Amendment(
            amendment.id,
            Amendment {
                action: amendment.action,
                stored_bytes: amendment.stored_bytes,
                publish_time: Duration::from_micros(amendment.publish_us),
                not_stored: amendment.not_stored,
            },
        ),
        None => Record::Unknown,
    }
}

fn call_message(id: u64, event: &Event) -> wire::Call {
    let text = |text: &str| cut(text, TEXT_BYTES_MAX);
    wire::Call {
        id,
        at_us: event.at.duration_since(UNIX_EPOCH).map_or(0, micros),
        crate_name: text(&event.crate_name),
        version: text(&event.version),
        kind: text(&event.kind),
        outcome: event.outcome.name().to_owned(),
        reason: text(&event.reason),
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
        query: text(&event.query),
        action: text(&event.action),
        cwd: text(&event.cwd),
        root: text(&event.root),
        changes: change_messages(&event.changes),
        nearest: text(&event.nearest),
        not_stored: text(&event.not_stored),
        roots: event.roots.iter().take(ROOTS_MAX).map(root_message).collect(),
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

/// `None` where the outcome has a name that only later versions know.
fn event(call: wire::Call) -> Option<Event> {
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
        crate_name: call.crate_name,
        version: call.version,
        kind: call.kind,
        outcome: Outcome::from_name(&call.outcome)?,
        reason: call.reason,
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
        query: call.query,
        action: call.action,
        cwd: call.cwd,
        root: call.root,
        changes: call.changes.into_iter().map(change).collect(),
        nearest: call.nearest,
        not_stored: call.not_stored,
        roots: call.roots.into_iter().map(|root| (root.role, root.dir)).collect(),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Up to so many bytes, and a sign that there were more.
fn cut(text: &str, bytes_max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - ELLIPSIS.len());
    format!("{}{ELLIPSIS}", &text[..end])
}

/// An event in which every field says something, for tests of what must be kept.
#[cfg(test)]
pub(super) fn full_event() -> Event {
    let text = str::to_owned;
    Event {
        at: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        crate_name: text("serde"),
        version: text("1.0.2"),
        kind: text("lib"),
        outcome: Outcome::Miss,
        reason: text("changed"),
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
        query: text("aa"),
        action: text("bb"),
        cwd: text("/w"),
        root: text("/w/target"),
        roots: vec![(text("out"), text("/w/target"))],
        changes: vec![Change { kind: text("env"), name: text("X"), before: None, now: Some(String::new()) }],
        nearest: text("cc"),
        not_stored: text("inputs-changed: `src/lib.rs`"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_is_framed_is_read() {
        let amendment = Amendment {
            action: "bb".to_owned(),
            stored_bytes: 7,
            publish_time: Duration::from_micros(9),
            not_stored: "x".to_owned(),
        };
        let log = [frame_call(1, &full_event()), frame_amendment(1, &amendment)].concat();
        let Next::Record(first, rest) = next(&log) else { panic!("a record was framed") };
        assert_eq!(first, Record::Call(1, Box::new(full_event())));
        assert_eq!(next(rest), Next::Record(Record::Amendment(1, amendment), &[]));
        assert_eq!(next(&[]), Next::End);
    }

    #[test]
    fn sto_09_no_part_of_a_record_is_read_as_one() {
        let frame = frame_call(1, &full_event());
        for length in 1..frame.len() {
            assert_eq!(next(&frame[..length]), Next::Torn, "{length}");
        }
    }

    #[test]
    fn sto_09_a_record_with_a_wrong_bit_is_not_read() {
        let frame = frame_call(1, &full_event());
        for index in 0..frame.len() {
            let mut wrong = frame.clone();
            wrong[index] ^= 1;
            assert!(matches!(next(&wrong), Next::Torn | Next::Damaged), "{index}");
        }
        // What a filesystem leaves where it had no time to write.
        assert_eq!(next(&[0; 100]), Next::Damaged);
    }

    #[test]
    fn a_record_of_a_later_version_is_passed_over() {
        for body in [
            Vec::new(),
            // A kind of record, and an outcome, that nobody knows yet.
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
            assert_eq!(next(&frame), Next::Record(Record::Unknown, &[]));
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
            reason: long.clone(),
            detail: long.clone(),
            query: long.clone(),
            action: long.clone(),
            cwd: long.clone(),
            root: long.clone(),
            nearest: long.clone(),
            not_stored: long.clone(),
            phases: vec![(Phase::Parse, Duration::MAX); 1000],
            roots: vec![(long.clone(), long.clone()); 1000],
            changes: vec![change; 1000],
            ..Event::new(SystemTime::now(), &*long, Outcome::Miss)
        };
        let frame = frame_call(u64::MAX, &event);
        assert!(frame.len() <= RECORD_BYTES_MAX, "{}", frame.len());
        let Next::Record(Record::Call(_, read), &[]) = next(&frame) else { panic!("a record was framed") };
        assert_eq!(read.changes.len(), CHANGES_MAX + 1);
        assert_eq!(read.changes[CHANGES_MAX].name, "984 more");
        assert!(read.detail.ends_with('…') && read.detail.len() <= TEXT_BYTES_MAX);
        event.changes.truncate(CHANGES_MAX);
        assert_eq!(change_messages(&event.changes).len(), CHANGES_MAX);
    }
}
