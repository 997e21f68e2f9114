//! The operating system behind one name: private directories, sockets, locks, detaching.

mod unix;

pub use unix::{
    Announcer, DirError, Lock, LockError, PeerError, bound_heaps, check_private_dir, connect, detach,
    ensure_private_dir, home_dir, is_trusted_owner, listen, own_uid, peer_pid, peer_uid,
    raise_open_files_limit, reachable, require_own_peer,
};
