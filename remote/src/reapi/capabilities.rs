//! What a server of the Remote Execution API offers, of what this client can use.
//!
//! Pure: the server's message in, an [`Offer`] out.

use kache_cas::DigestFunction;
use kache_proto::reapi::compressor::Value as Compressor;
use kache_proto::reapi::digest_function::Value as Function;
use kache_proto::reapi::{CacheCapabilities, ServerCapabilities};

use super::batches::BatchLimit;
use crate::error::RemoteError;
use crate::remote::Capabilities;

/// The parts of a server's capabilities that this client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// What callers see of it.
    pub(super) capabilities: Capabilities,
    /// The limit of batches in both directions.
    pub(super) batch_limit: BatchLimit,
    /// Whether ByteStream takes and sends blobs compressed with zstd, and `BatchReadBlobs` sends them.
    pub(super) has_zstd: bool,
    /// Whether `BatchUpdateBlobs` takes blobs compressed with zstd.
    pub(super) has_zstd_updates: bool,
    /// The largest blob that the server takes; `None` if it does not say.
    pub(super) blob_bytes_max: Option<u64>,
}

impl Offer {
    /// Reads the response of `GetCapabilities`.
    pub(super) fn read(response: &ServerCapabilities) -> Result<Offer, RemoteError> {
        let Some(cache) = &response.cache_capabilities else {
            return Err(RemoteError::refused("the server is no cache: it offers no `cache_capabilities`"));
        };
        let zstd = Compressor::Zstd as i32;
        Ok(Offer {
            capabilities: Capabilities { function: function(cache)?, takes_results: takes_results(cache) },
            batch_limit: BatchLimit::of_advertised(cache.max_batch_total_size_bytes),
            has_zstd: cache.supported_compressors.contains(&zstd),
            has_zstd_updates: cache.supported_batch_update_compressors.contains(&zstd),
            blob_bytes_max: u64::try_from(cache.max_cas_blob_size_bytes).ok().filter(|max| *max > 0),
        })
    }
}

fn function(cache: &CacheCapabilities) -> Result<DigestFunction, RemoteError> {
    let offers = |function: Function| cache.digest_functions.contains(&(function as i32));
    if offers(Function::Blake3) {
        return Ok(DigestFunction::Blake3);
    }
    if offers(Function::Sha256) {
        return Ok(DigestFunction::Sha256);
    }
    let name = |value: &i32| match Function::try_from(*value) {
        Ok(function) => function.as_str_name().to_owned(),
        Err(_) => format!("function {value}"),
    };
    let names: Vec<String> = cache.digest_functions.iter().map(name).collect();
    let offered = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let message = format!("the server offers neither BLAKE3 nor SHA256; its digest functions: {offered}");
    Err(RemoteError::refused(message))
}

/// A server that does not say whether it takes results is asked to.
fn takes_results(cache: &CacheCapabilities) -> bool {
    cache.action_cache_update_capabilities.as_ref().is_none_or(|update| update.update_enabled)
}

#[cfg(test)]
mod tests {
    use kache_proto::reapi::ActionCacheUpdateCapabilities;

    use super::*;

    fn read(cache: CacheCapabilities) -> Result<Offer, RemoteError> {
        Offer::read(&ServerCapabilities { cache_capabilities: Some(cache), ..Default::default() })
    }

    fn offering(functions: &[Function]) -> CacheCapabilities {
        let digest_functions = functions.iter().map(|function| *function as i32).collect();
        CacheCapabilities { digest_functions, ..Default::default() }
    }

    #[test]
    fn blake3_is_preferred_and_sha256_is_enough() {
        for (functions, expected) in [
            (vec![Function::Sha1, Function::Sha256, Function::Blake3], DigestFunction::Blake3),
            (vec![Function::Sha512, Function::Sha256], DigestFunction::Sha256),
        ] {
            assert_eq!(read(offering(&functions)).unwrap().capabilities.function, expected);
        }
    }

    #[test]
    fn other_functions_are_named() {
        let mut cache = offering(&[Function::Sha384, Function::Md5]);
        cache.digest_functions.push(4711);
        let error = read(cache).unwrap_err().to_string();
        assert!(error.contains("SHA384, MD5, function 4711"), "{error}");
        assert!(read(offering(&[])).unwrap_err().to_string().contains("none"));
        assert!(Offer::read(&ServerCapabilities::default()).is_err());
    }

    #[test]
    fn only_a_server_that_says_so_takes_no_results() {
        let cache = offering(&[Function::Sha256]);
        assert!(read(cache.clone()).unwrap().capabilities.takes_results);
        for update_enabled in [true, false] {
            let update = Some(ActionCacheUpdateCapabilities { update_enabled });
            let cache = CacheCapabilities { action_cache_update_capabilities: update, ..cache.clone() };
            assert_eq!(read(cache).unwrap().capabilities.takes_results, update_enabled);
        }
    }
}
