//! Digests and instance names as REAPI messages carry them, to ours.
//!
//! Pure. A request says which function its hashes are of, or says nothing: then they are
//! SHA-256, the only one of ours that may go without saying.

use std::sync::Arc;

use kache_cas::{ActionKey, Digest, DigestFunction, Hash};
use kache_proto::reapi;
use kache_proto::reapi::digest_function::Value;
use tonic::Status;

use super::resource_name::check_instance;

/// The function that a request's `digest_function` means.
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

/// The value that stands for a function.
pub(super) fn function_value(function: DigestFunction) -> i32 {
    match function {
        DigestFunction::Sha256 => Value::Sha256 as i32,
        DigestFunction::Blake3 => Value::Blake3 as i32,
    }
}

/// The digest in a message.
pub(super) fn digest(function: DigestFunction, wire: &reapi::Digest) -> Result<Digest, Status> {
    Digest::parse(function, &wire.hash, wire.size_bytes)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The digest in a field that must be set.
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

/// The action that a request is about. The size is left out: some proxies do not know it.
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

/// Refuses what cannot be an instance name.
pub(super) fn check(instance: &str) -> Result<(), Status> {
    check_instance(instance).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn functions_are_those_we_have() {
        assert_eq!(function(0).unwrap(), DigestFunction::Sha256);
        for ours in DigestFunction::ALL {
            assert_eq!(function(function_value(ours)).unwrap(), ours);
        }
        for value in [-1, 2, 3, 6, 8, 10, 11, 4711] {
            assert_eq!(function(value).unwrap_err().code(), Code::InvalidArgument, "{value}");
        }
    }

    #[test]
    fn an_action_is_known_by_its_hash_alone() {
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
    fn what_is_not_a_digest_is_the_callers_fault() {
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
