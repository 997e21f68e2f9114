//! The request for a compiler call: everything that the daemon has to know of it, because the
//! daemon uses no environment and no directory of its own (DMN-01).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use bytes::Bytes;
use kache_proto::control::Compile;
use nix::sys::stat::{Mode, umask};

use super::call_stdin::CallStdin;
use crate::staging::StagingDirectory;
use crate::{os, variables};

/// Builds the request for a call of `program` in the directory `cwd`.
pub(crate) fn compile_request(
    program: &OsStr,
    args: &[OsString],
    cwd: &Path,
    stdin: &CallStdin,
    staging: Option<&StagingDirectory>,
) -> Compile {
    let argv = std::iter::once(program).chain(args.iter().map(OsString::as_os_str));
    Compile {
        argv: argv.map(to_bytes).collect(),
        cwd: to_bytes(cwd.as_os_str()),
        env: variables::all().map(assignment).collect(),
        umask: own_umask(),
        mount_namespace: Bytes::from(os::filesystem_view(Path::new("/"))),
        stdin: stdin.to_send().map(Bytes::copy_from_slice),
        staging: staging.map(|staging| to_bytes(staging.path().as_os_str())).unwrap_or_default(),
    }
}

pub(crate) fn from_bytes(bytes: &Bytes) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn to_bytes(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Joins a variable to `NAME=value`, as messages of the control protocol hold it.
pub fn assignment((name, value): (OsString, OsString)) -> Bytes {
    let mut assignment = name.into_vec();
    assignment.push(b'=');
    assignment.extend_from_slice(value.as_bytes());
    Bytes::from(assignment)
}

/// Reads the umask. The system lets it be read only by setting it, which is safe here because this
/// process has one thread.
fn own_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    #[expect(clippy::useless_conversion, reason = "`mode_t` has sixteen bits on macOS")]
    u32::from(mask.bits())
}
