//! The headers of requests: those that the options ask for, and what a request is for.

use kache_proto::Message as _;
use kache_proto::reapi::{RequestMetadata, ToolDetails};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::http_headers::fixed_headers;
use crate::options::{OptionsError, RemoteOptions};
use crate::remote::RequestContext;

/// The header that tells the server what a request is for.
const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// The name by which servers know this program.
const TOOL_NAME: &str = "kache";

/// The headers that all requests share, and the tool that they name.
pub(super) struct Metadata {
    headers: MetadataMap,
    tool: ToolDetails,
}

impl Metadata {
    /// Makes the headers that the options ask for.
    pub(super) fn new(options: &RemoteOptions) -> Result<Metadata, OptionsError> {
        let headers = fixed_headers(options)?;
        let tool = ToolDetails { tool_name: TOOL_NAME.to_owned(), tool_version: options.version.clone() };
        Ok(Metadata { headers: MetadataMap::from_headers(headers), tool })
    }

    /// Makes a request with all headers.
    pub(super) fn request<T>(&self, message: T, context: &RequestContext) -> tonic::Request<T> {
        let metadata = RequestMetadata {
            tool_details: Some(self.tool.clone()),
            action_id: context.action_id.clone(),
            tool_invocation_id: context.invocation_id.clone(),
            action_mnemonic: context.mnemonic.to_string(),
            ..RequestMetadata::default()
        };
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
            .metadata_mut()
            .insert_bin(REQUEST_METADATA, MetadataValue::from_bytes(&metadata.encode_to_vec()));
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Authentication, Secret};

    #[test]
    fn a_request_carries_credentials_headers_and_what_it_is_for() {
        let password = Secret::new("hunter2");
        let options = RemoteOptions {
            version: "1.2".to_owned(),
            headers: vec![("x-api-key".to_owned(), Secret::new("k1"))],
            authentication: Some(Authentication::Basic { user: "ann".to_owned(), password }),
            ..RemoteOptions::default()
        };
        let context = RequestContext {
            action_id: "0a".to_owned(),
            invocation_id: "b1".to_owned(),
            mnemonic: "Rustc".into(),
            replaces: false,
        };
        let request = Metadata::new(&options).unwrap().request((), &context);
        let headers = request.metadata();
        assert_eq!(headers.get("authorization").unwrap(), "Basic YW5uOmh1bnRlcjI=");
        assert_eq!(headers.get("x-api-key").unwrap(), "k1");
        let encoded = headers.get_bin(REQUEST_METADATA).unwrap().to_bytes().unwrap();
        let metadata = RequestMetadata::decode(encoded).unwrap();
        let tool = metadata.tool_details.unwrap();
        assert_eq!((tool.tool_name.as_str(), tool.tool_version.as_str()), ("kache", "1.2"));
        assert_eq!((metadata.action_id.as_str(), metadata.action_mnemonic.as_str()), ("0a", "Rustc"));
        assert_eq!(metadata.tool_invocation_id, "b1");
        assert!(!format!("{headers:?}").contains("k1"), "{headers:?}");
    }
}
