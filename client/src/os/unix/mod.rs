//! Unix: Linux and macOS.

mod child;
mod detach;
mod lock;
mod private_dir;
mod socket;
mod user;
mod view;

pub use child::{HandingOn, bind_to_this_process, children_cpu_time, hand_signals_on_to, wait_unreaped};
pub use detach::{Announcer, detach, leave_behind};
pub use lock::{Lock, LockError};
pub use private_dir::{DirError, check_private_dir, ensure_private_dir};
pub use socket::{PeerError, connect, listen, peer_pid, peer_uid, reachable, require_own_peer};
pub use user::{bound_heaps, home_dir, is_trusted_owner, own_uid, raise_open_files_limit};
pub use view::view;
