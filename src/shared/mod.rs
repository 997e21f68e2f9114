//! Files of target directories whose inodes other checkouts share.
//!
//! Where the filesystem cannot share blocks, restored files are hard links to the store's files.
//! A change of the date, mode, owner or bytes of one link changes all of them. kache
//! therefore records which shared files lie in which target directory, and checks them before
//! cargo compares dates. A file that was changed is replaced by one with the recorded date, mode
//! and bytes (RST-02).
//!
//! While a daemon runs it also watches these files, and learns through which link a change was
//! made. The checkout in which it was made then keeps the change, as it would without kache, and
//! the other checkouts get back what they had.
//!
//! This module knows no compiler and no call. Its callers tell it which files were restored or
//! stored in which target directory.

mod check;
mod entry;
mod events;
mod files;
mod record;
mod repair;
mod uplifted;
mod watch;

pub use check::CheckReport;
pub use entry::{Attributes, Entry};
pub use files::SharedFiles;
pub use repair::unshare;
