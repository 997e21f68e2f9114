//! Opens the right kind of remote for a location.

use std::sync::Arc;

use crate::dir::DirRemote;
use crate::http_headers::fixed_headers;
use crate::location::{HttpLocation, Location, ReapiLocation};
use crate::objects::ObjectRemote;
use crate::options::{OptionsError, RemoteOptions};
use crate::reapi::ReapiRemote;
use crate::remote::Remote;
use crate::{s3, tls};

/// Checks what can be checked without a connection and without reading the contents of files: headers, the
/// endpoint of S3, and whether the files for TLS are there and private keys are not exposed.
pub fn check(location: &Location, options: &RemoteOptions) -> Result<(), OptionsError> {
    fixed_headers(options)?;
    let uses_tls = match location {
        Location::Reapi(ReapiLocation::Tcp { is_tls, .. }) | Location::Http(HttpLocation { is_tls, .. }) => {
            *is_tls
        }
        Location::S3(location) => {
            s3::check(location, options)?;
            true
        }
        Location::Reapi(ReapiLocation::Unix(_)) | Location::Dir(_) => false,
    };
    if uses_tls { tls::check(&options.tls) } else { Ok(()) }
}

/// Opens a remote. This reads the files for TLS, and connects to nothing yet.
pub fn open(location: &Location, options: &RemoteOptions) -> Result<Arc<dyn Remote>, OptionsError> {
    Ok(match location {
        Location::Reapi(location) => Arc::new(ReapiRemote::new(location.clone(), options)?),
        Location::Http(location) => Arc::new(ObjectRemote::http(location, options)?),
        Location::S3(location) => Arc::new(ObjectRemote::s3(location, options)?),
        Location::Dir(dir) => Arc::new(DirRemote::new(dir, options)?),
    })
}
