//! Digests and resource names as messages carry them.
//!
//! Pure. SHA-256 is never named: the Remote Execution API says so, and most servers refuse `blobs/sha256/…`.

use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi;
use kache_proto::reapi::digest_function::Value;

use crate::uuid;

/// Returns the digest as messages carry it.
pub(super) fn wire<K>(digest: &Digest<K>) -> reapi::Digest {
    let size_bytes = i64::try_from(digest.size_bytes).unwrap_or(i64::MAX);
    reapi::Digest { hash: digest.hash.to_hex(), size_bytes }
}

/// Returns the value of the field `digest_function`, which stays unset for SHA-256.
pub(super) fn function_field(function: DigestFunction) -> i32 {
    match function {
        DigestFunction::Blake3 => Value::Blake3 as i32,
        DigestFunction::Sha256 => Value::Unknown as i32,
    }
}

/// Returns the function of these digests; SHA-256 if there are none.
pub(super) fn function_of(blobs: &[Digest]) -> DigestFunction {
    blobs.first().map_or(DigestFunction::Sha256, |digest| digest.function)
}

/// Returns the resource name for a download.
pub(super) fn for_read(instance: &str, digest: &Digest, is_zstd: bool) -> String {
    format!("{}{}", prefix(instance), blob(digest, is_zstd))
}

/// Returns the resource name for an upload.
pub(super) fn for_write(instance: &str, digest: &Digest, is_zstd: bool) -> String {
    format!("{}uploads/{}/{}", prefix(instance), uuid::random(), blob(digest, is_zstd))
}

fn prefix(instance: &str) -> String {
    if instance.is_empty() { String::new() } else { format!("{instance}/") }
}

/// Returns the part that names the blob. The digest's text is `hash/size`, with `blake3/` before it where
/// that is the function.
fn blob(digest: &Digest, is_zstd: bool) -> String {
    format!("{}/{digest}", if is_zstd { "compressed-blobs/zstd" } else { "blobs" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blake3_is_named() {
        let sha256 = Digest::of(DigestFunction::Sha256, b"x");
        let blake3 = Digest::of(DigestFunction::Blake3, b"x");
        assert_eq!(for_read("", &sha256, false), format!("blobs/{}/1", sha256.hash));
        assert_eq!(for_read("a/b", &blake3, false), format!("a/b/blobs/blake3/{}/1", blake3.hash));
        let compressed = format!("compressed-blobs/zstd/blake3/{}/1", blake3.hash);
        assert_eq!(for_read("", &blake3, true), compressed);
        assert_eq!(function_field(DigestFunction::Sha256), 0);
        assert_eq!(function_field(DigestFunction::Blake3), 9);
    }

    #[test]
    fn each_upload_has_a_uuid_of_its_own() {
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        let [one, other] = [(); 2].map(|()| for_write("i", &digest, true));
        assert_ne!(one, other);
        let uuid = one.strip_prefix("i/uploads/").unwrap().split('/').next().unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!((&uuid[14..15], &uuid[8..9], &uuid[23..24]), ("4", "-", "-"));
        assert!(one.ends_with(&format!("/compressed-blobs/zstd/{}/1", digest.hash)));
    }
}
