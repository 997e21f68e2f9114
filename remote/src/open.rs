//! Opens the right kind of remote for a location.

use std::sync::Arc;

use crate::dir::DirRemote;
use crate::location::Location;
use crate::objects::ObjectRemote;
use crate::options::{OptionsError, RemoteOptions};
use crate::reapi::ReapiRemote;
use crate::remote::Remote;

/// Opens a remote. This reads the files for TLS, and connects to nothing yet.
pub fn open(location: &Location, options: &RemoteOptions) -> Result<Arc<dyn Remote>, OptionsError> {
    Ok(match location {
        Location::Reapi(location) => Arc::new(ReapiRemote::new(location.clone(), options)?),
        Location::Http(location) => Arc::new(ObjectRemote::http(location, options)?),
        Location::S3(location) => Arc::new(ObjectRemote::s3(location, options)?),
        Location::Dir(dir) => Arc::new(DirRemote::new(dir, options)?),
    })
}
