//! What kache keeps on remotes, and how it gets there and back.
//!
//! A remote knows a compile by two keys, as the local store does: a query and an action. Both are made anew
//! in the remote's digest function, without the values of private variables ([`translate`]). Under the query
//! lie path sets: names of what compiles of it looked at. A reader makes these observations in its own
//! checkout and so finds the action. Under the action lies its result ([`result`]).
//!
//! The parts of a lookup and of an upload that wait for a remote are in [`download`] and [`upload`].

mod asked;
mod blocking;
pub mod builds;
mod damaged;
pub mod download;
#[cfg(test)]
mod download_tests;
mod failure;
mod flights;
mod handle;
mod note;
mod path_sets;
mod pulled;
mod queue;
pub mod record;
mod registry;
mod result;
mod session;
mod stall;
pub mod sync;
#[cfg(test)]
mod tests;
mod toolchain;
mod translate;
mod upload;

pub use asked::AskedRemote;
pub use damaged::DamagedBlobs;
pub use failure::{FailureCause, TransferFailure};
pub use handle::{AnswerLimits, RemoteConnections, RemoteHandle, RemoteUses, WaitingUpload};
pub use path_sets::{add_path_set, read_path_sets};
pub use pulled::PulledResults;
pub use queue::{UploadEnd, UploadItem, UploadQueue, UploadWorker, upload_queue};
pub use registry::{OpenRemotes, open_anew};
pub use result::{CheckedResult, SharedOutput, SharedResult, UnusableResult, check, to_shared};
pub use session::{RemoteSession, SessionWithoutBuild};
pub use translate::Translator;
pub use upload::{ActionMessages, Upload, UploadError, UploadInputs, UploadOutcome, upload};
