//! A call as it is sent: everything that the daemon may want to know of it (DMN-01).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use bytes::Bytes;
use kache_proto::control::Compile;
use nix::sys::stat::{Mode, umask};

use super::stdin::Stdin;
use crate::staging::Staging;
use crate::{os, variables};

/// The request.
pub(crate) fn of_call(
    program: &OsStr,
    args: &[OsString],
    cwd: &Path,
    stdin: &Stdin,
    staging: Option<&Staging>,
) -> Compile {
    let argv = std::iter::once(program).chain(args.iter().map(OsString::as_os_str));
    Compile {
        argv: argv.map(to_bytes).collect(),
        cwd: to_bytes(cwd.as_os_str()),
        env: variables::all().map(pair).collect(),
        umask: own_umask(),
        mount_namespace: Bytes::from(os::view(Path::new("/"))),
        stdin: stdin.to_send().map(Bytes::copy_from_slice),
        staging: staging.map(|staging| to_bytes(staging.path().as_os_str())).unwrap_or_default(),
    }
}

/// From the wire.
pub(crate) fn from_bytes(bytes: &Bytes) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn to_bytes(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn pair((name, value): (OsString, OsString)) -> Bytes {
    let mut pair = name.into_vec();
    pair.push(b'=');
    pair.extend_from_slice(value.as_bytes());
    Bytes::from(pair)
}

/// It can only be read by being set; this process has one thread.
fn own_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    #[expect(clippy::useless_conversion, reason = "`mode_t` has sixteen bits on macOS")]
    u32::from(mask.bits())
}
