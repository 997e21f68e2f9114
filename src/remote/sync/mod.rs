//! `kache sync`: copies results between the store and remotes, and says what is not copied and why.
//!
//! Every step looks at what the other side has already, so a sync that was interrupted goes on where it was.

mod progress;
mod pull;
mod push;
mod report;

pub use progress::{HeldStore, Progress, SyncContext};
pub use pull::pull;
pub use push::{PushScope, push};
pub use report::{SyncFailure, SyncReport, SyncTotal};
