//! Other users of the machine (DMN-02).

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;

use kache_client::control::{Hello, encode};

use crate::home::{Home, is_root, tree};

/// The id of another user.
const OTHER_USER: u32 = 54321;

#[test]
fn dmn_02_other_users_cannot_use_the_sockets() {
    let home = Home::new();
    home.start();
    for path in tree(&home.socket_dir()).iter().chain([&home.socket_dir()]) {
        let mode = fs::symlink_metadata(path).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", path.display());
    }
}

#[test]
fn dmn_02_a_socket_directory_of_another_user_is_refused() {
    let home = Home::new();
    // Only root can change a directory's owner. For other users `/` has another owner.
    let home = if is_root() {
        fs::create_dir(home.socket_dir()).unwrap();
        chown(home.socket_dir(), Some(OTHER_USER), None).unwrap();
        home
    } else {
        home.with("KACHE_SOCKET_DIR", "/")
    };
    for command in ["start", "status", "stop", "run"] {
        home.run(&["daemon", command]).expect(1, &["belongs to user", "not to you", "KACHE_SOCKET_DIR"]);
    }
}

#[test]
fn dmn_02_a_socket_directory_that_others_can_write_to_is_refused() {
    let home = Home::new();
    fs::create_dir(home.socket_dir()).unwrap();
    fs::set_permissions(home.socket_dir(), Permissions::from_mode(0o777)).unwrap();
    for command in ["start", "status", "run"] {
        home.run(&["daemon", command]).expect(1, &["other users can write to"]);
    }
}

/// The directory keeps other users out. If it did not, the daemon would still check the peer's user. The test needs
/// two users; without root it only checks that the same user is accepted.
#[test]
fn dmn_02_the_peers_user_is_checked() {
    let home = Home::new();
    home.start();
    let socket = home.address().control_socket();
    assert!(gets_a_reply(&socket), "we are let in");
    if is_root() {
        open_to_everybody(&socket);
        assert!(!gets_a_reply_as(&socket, OTHER_USER), "another user is rejected");
    }
}

/// Sends a greeting, and returns whether there is a reply.
fn gets_a_reply(socket: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let hello =
        Hello { protocol: kache_client::PROTOCOL, client_version: "0.1.0".into(), only_looking: true };
    let sent = stream.write_all(&encode(&hello).unwrap()).is_ok();
    sent && stream.read(&mut [0; 1]).is_ok_and(|len| len == 1)
}

/// Does the same as another user in a separate process.
fn gets_a_reply_as(socket: &Path, uid: u32) -> bool {
    // SAFETY: the child makes system calls and ends by `_exit`. The C library allows its allocations after a fork.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let became = nix::unistd::setuid(uid.into()).is_ok();
            let code = if became && UnixStream::connect(socket).is_err() {
                2
            } else {
                i32::from(gets_a_reply(socket))
            };
            // SAFETY: the call changes nothing of the parent.
            unsafe { libc::_exit(code) }
        }
        nix::unistd::ForkResult::Parent { child } => match nix::sys::wait::waitpid(child, None).unwrap() {
            nix::sys::wait::WaitStatus::Exited(_, 0) => false,
            nix::sys::wait::WaitStatus::Exited(_, 1) => true,
            other => panic!("the other user could not even connect: {other:?}"),
        },
    }
}

fn open_to_everybody(socket: &Path) {
    for path in socket.ancestors().take_while(|path| *path != Path::new("/tmp") && *path != Path::new("/")) {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
}
