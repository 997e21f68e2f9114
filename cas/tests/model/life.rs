//! Random sequences of events in the life of a store.

use std::time::Duration;

use kache_cas::{AccessKind, DigestFunction};
use proptest::prelude::*;

/// The number of a blob, which determines its bytes and size.
pub(crate) type Name = u8;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A blob is written in pieces.
    Write(DigestFunction, Name),
    /// Several blobs are inserted in one call.
    Insert(DigestFunction, Vec<Name>),
    /// Bytes are written that do not match the blob's digest.
    WriteWrong(DigestFunction, Name),
    /// A writer is dropped in the middle of a blob.
    Abandon(DigestFunction, Name),
    /// A file is ingested.
    Ingest(DigestFunction, Name),
    /// A blob is placed as a file.
    Place(DigestFunction, Name),
    /// A client asks which blobs are missing.
    Find(DigestFunction, Vec<Name>, AccessKind),
    /// A blob is read.
    Open(DigestFunction, Name, AccessKind),
    /// A result is stored, under one of a few keys.
    Put(DigestFunction, u8, Vec<Name>),
    /// A result is looked up.
    Get(DigestFunction, u8, AccessKind),
    /// A result is removed.
    Remove(DigestFunction, u8),
    /// Time passes.
    Wait(Duration),
    /// The clock is set back.
    SetBack(Duration),
    /// Maintenance runs until nothing more is due.
    Maintain,
    /// Maintenance makes one step.
    Step,
    /// The store is closed and opened again.
    Reopen,
    /// The process dies, and the store is opened again.
    Die,
}

fn functions() -> impl Strategy<Value = DigestFunction> {
    prop_oneof![Just(DigestFunction::Blake3), Just(DigestFunction::Sha256)]
}

fn accesses() -> impl Strategy<Value = AccessKind> {
    prop_oneof![Just(AccessKind::Peek), Just(AccessKind::Use), Just(AccessKind::Promise)]
}

fn waits() -> impl Strategy<Value = Duration> {
    let minutes = |range| (range,).prop_map(|(minutes,): (u64,)| Duration::from_secs(60 * minutes));
    prop_oneof![minutes(0u64..20), minutes(0u64..300), minutes(0u64..100_000)]
}

fn events() -> impl Strategy<Value = Event> {
    let name = || 0u8..64;
    let names = || proptest::collection::vec(0u8..64, 0..6);
    let key = || 0u8..12;
    prop_oneof![
        8 => (functions(), name()).prop_map(|(function, name)| Event::Write(function, name)),
        4 => (functions(), names()).prop_map(|(function, names)| Event::Insert(function, names)),
        1 => (functions(), name()).prop_map(|(function, name)| Event::WriteWrong(function, name)),
        1 => (functions(), name()).prop_map(|(function, name)| Event::Abandon(function, name)),
        2 => (functions(), name()).prop_map(|(function, name)| Event::Ingest(function, name)),
        2 => (functions(), name()).prop_map(|(function, name)| Event::Place(function, name)),
        4 => (functions(), names(), accesses())
            .prop_map(|(function, names, access)| Event::Find(function, names, access)),
        3 => (functions(), name(), accesses())
            .prop_map(|(function, name, access)| Event::Open(function, name, access)),
        4 => (functions(), key(), names())
            .prop_map(|(function, key, names)| Event::Put(function, key, names)),
        6 => (functions(), key(), accesses())
            .prop_map(|(function, key, access)| Event::Get(function, key, access)),
        1 => (functions(), key()).prop_map(|(function, key)| Event::Remove(function, key)),
        6 => waits().prop_map(Event::Wait),
        1 => (0u64..12 * 60).prop_map(|minutes| Event::SetBack(Duration::from_secs(60 * minutes))),
        2 => Just(Event::Maintain),
        3 => Just(Event::Step),
        1 => Just(Event::Reopen),
        1 => Just(Event::Die),
    ]
}

/// Makes a sequence of up to `events_max` events.
pub(crate) fn lives(events_max: usize) -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(events(), 1..events_max)
}
