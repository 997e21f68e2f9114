//! Blobs, digests and options that the tests share.

use std::time::Duration;

use bytes::Bytes;
use kache_cas::{Content, Digest, DigestFunction};

use crate::{Compression, RemoteError, RemoteLimits, RemoteOptions, RequestContext};

/// Bytes that compress a little and differ with the seed.
pub(crate) fn sample(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x1f
    };
    (0..len).map(|_| next()).collect()
}

/// Names blobs by a function.
pub(crate) fn named(function: DigestFunction, blobs: &[Bytes]) -> Vec<(Digest, Content)> {
    blobs.iter().map(|bytes| (Digest::of(function, bytes), Content::Memory(bytes.clone()))).collect()
}

pub(crate) fn digests(blobs: &[(Digest, Content)]) -> Vec<Digest> {
    blobs.iter().map(|(digest, _)| *digest).collect()
}

/// Options with limits that tests can wait for.
pub(crate) fn options() -> RemoteOptions {
    let limits = RemoteLimits {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(20),
        ..RemoteLimits::default()
    };
    RemoteOptions { version: "1.2.3".to_owned(), limits, ..RemoteOptions::default() }
}

pub(crate) fn uncompressed() -> RemoteOptions {
    RemoteOptions { compression: Compression::None, ..options() }
}

pub(crate) fn context() -> RequestContext {
    RequestContext {
        action_id: "0123ab".to_owned(),
        invocation_id: "4567cd".to_owned(),
        mnemonic: "Rustc".into(),
        replaces: false,
    }
}

pub(crate) fn is_refused(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { .. })
}

pub(crate) fn is_malformed(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Malformed { .. })
}
