//! The operating system behind one name: private directories, sockets, locks, detaching.

mod unix;

pub use unix::{
    Announcer, DirError, HandingOn, Lock, LockError, PeerError, bind_to_this_process, bound_heaps,
    check_private_dir, children_cpu_time, connect, detach, ensure_private_dir, hand_signals_on_to, home_dir,
    is_trusted_owner, leave_behind, listen, own_uid, peer_pid, peer_uid, raise_open_files_limit, reachable,
    require_own_peer, view, wait_unreaped,
};
