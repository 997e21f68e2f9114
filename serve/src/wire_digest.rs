//! Converts digests, digest functions and instance names of REAPI messages to types of the store.
//!
//! Pure. A request that names no digest function means SHA-256, as REAPI prescribes.

use std::sync::Arc;

use kache_cas::{ActionKey, Digest, DigestFunction, Hash};
use kache_proto::reapi;
use kache_proto::reapi::digest_function::Value;
use tonic::Status;

use super::resource_name::check_instance;

/// Converts the `digest_function` of a request.
pub(super) fn function(value: i32) -> Result<DigestFunction, Status> {
    match Value::try_from(value) {
        Ok(Value::Unknown | Value::Sha256) => Ok(DigestFunction::Sha256),
        Ok(Value::Blake3) => Ok(DigestFunction::Blake3),
        Ok(other) => Err(Status::invalid_argument(format!(
            "the digest function {} is not supported; SHA256 and BLAKE3 are",
            other.as_str_name()
        ))),
        Err(_) => Err(Status::invalid_argument(format!(
            "the digest function {value} is not known; SHA256 (1) and BLAKE3 (9) are supported"
        ))),
    }
}

/// The value of `digest_function` that stands for a function.
pub(super) fn function_value(function: DigestFunction) -> i32 {
    match function {
        DigestFunction::Sha256 => Value::Sha256 as i32,
        DigestFunction::Blake3 => Value::Blake3 as i32,
    }
}

/// Converts a digest of a message; an invalid one is `INVALID_ARGUMENT`.
pub(super) fn digest(function: DigestFunction, wire: &reapi::Digest) -> Result<Digest, Status> {
    Digest::parse(function, &wire.hash, wire.size_bytes)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Converts the digest in a field that must be set.
pub(super) fn required(
    function: DigestFunction,
    wire: Option<&reapi::Digest>,
    field: &str,
) -> Result<Digest, Status> {
    digest(function, wire.ok_or_else(|| missing(field))?)
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("`{field}` is not set"))
}

/// The key of the action that a request names. The size is ignored, because some proxies do not
/// know it.
pub(super) fn action_key(
    instance: &str,
    function_value: i32,
    wire: Option<&reapi::Digest>,
) -> Result<ActionKey, Status> {
    check(instance)?;
    let function = function(function_value)?;
    let wire = wire.ok_or_else(|| missing("action_digest"))?;
    let hash: Hash = wire.hash.parse().map_err(|error: kache_cas::DigestError| {
        Status::invalid_argument(format!("`action_digest`: {error}"))
    })?;
    Ok(ActionKey { instance: Arc::from(instance), function, hash })
}

/// Checks an instance name.
pub(super) fn check(instance: &str) -> Result<(), Status> {
    check_instance(instance).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn supported_functions_are_converted_and_others_refused() {
        assert_eq!(function(0).unwrap(), DigestFunction::Sha256);
        for ours in DigestFunction::ALL {
            assert_eq!(function(function_value(ours)).unwrap(), ours);
        }
        for value in [-1, 2, 3, 6, 8, 10, 11, 4711] {
            assert_eq!(function(value).unwrap_err().code(), Code::InvalidArgument, "{value}");
        }
    }

    #[test]
    fn the_size_of_an_action_is_ignored() {
        let hash = DigestFunction::Sha256.hash(b"action").to_hex();
        let key = |instance: &str, size_bytes| {
            action_key(instance, 1, Some(&reapi::Digest { hash: hash.clone(), size_bytes }))
        };
        assert_eq!(key("", 3).unwrap(), key("", -1).unwrap());
        assert_ne!(key("", 3).unwrap(), key("a/b", 3).unwrap());
        for instance in ["blobs", "a//b", "/", "a/uploads/b"] {
            assert_eq!(key(instance, 3).unwrap_err().code(), Code::InvalidArgument, "{instance}");
        }
        assert_eq!(action_key("", 1, None).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn malformed_digests_are_invalid_arguments() {
        let hash = DigestFunction::Sha256.hash(b"x").to_hex();
        for (hash, size_bytes) in [(hash.to_uppercase(), 1), (hash.clone(), -1), (String::new(), 0)] {
            let wire = reapi::Digest { hash, size_bytes };
            let status = digest(DigestFunction::Sha256, &wire).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{wire:?}");
        }
        let missing = required(DigestFunction::Sha256, None, "root_digest").unwrap_err();
        assert!(missing.message().contains("root_digest"), "{missing}");
    }
}
