//! The uploads that wait for their remotes. No build waits for them (NET-04).
//!
//! The queue outlives the daemon: what waits is a file in the cache directory ([`dir`]), and its content a
//! record in the store (`remote::record`). Uploads that an earlier daemon left begin when a call uses their
//! remote, because only calls have credentials.

mod dir;
mod schedule;
mod send;
mod upload_queue;
mod worker;

pub use dir::UploadItem;
pub use upload_queue::{UploadEnd, UploadQueue, upload_queue};
pub use worker::UploadWorker;
