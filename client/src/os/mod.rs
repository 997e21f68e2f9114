//! System calls behind names that do not depend on the platform: private directories, sockets,
//! locks, child processes, detaching.

mod unix;

pub use unix::{
    DirError, Lock, LockError, PeerError, SignalForwarding, StarterPipe, check_private_dir,
    children_cpu_time, connect, detach, ensure_private_dir, filesystem_view, forward_signals_to, home_dir,
    is_trusted_owner, kill_with_this_process, limit_heaps, listen, own_uid, peer_pid, peer_uid,
    raise_open_files_limit, require_own_peer, short_socket_path, spawn_detached, wait_without_reaping,
};
