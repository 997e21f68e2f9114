//! Unix: Linux and macOS.

mod child;
mod detach;
mod lock;
mod private_dir;
mod socket;
mod user;
mod view;

pub use child::{
    SignalForwarding, children_cpu_time, forward_signals_to, kill_with_this_process, wait_without_reaping,
};
pub use detach::{StarterPipe, detach, spawn_detached};
pub use lock::{Lock, LockError};
pub use private_dir::{DirError, check_private_dir, ensure_private_dir};
pub use socket::{PeerError, connect, listen, peer_pid, peer_uid, require_own_peer, short_socket_path};
pub use user::{home_dir, is_trusted_owner, limit_heaps, own_uid, raise_open_files_limit};
pub use view::filesystem_view;
