//! Compiler calls between the control protocol and the pipeline's types, in one place.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use kache_client::control::{Compile, Done, Guard, PassOn, Ran, Replacement, Run, Said, reply, said};

use crate::compile::{Captured, Exit, Piece, Stream};
use crate::invocation::{Call, Environment, variable};
use crate::pipeline::{self, Reply};

/// A call, as its client sent it.
pub(super) fn call(compile: &Compile) -> Call {
    Call {
        argv: compile.argv.iter().map(text).collect(),
        cwd: PathBuf::from(text(&compile.cwd)),
        env: compile.env.iter().map(|pair| variable(pair)).collect::<Environment>(),
        umask: compile.umask,
        stdin: compile.stdin.clone(),
    }
}

/// A place that is named; none by no bytes.
pub(super) fn place(bytes: &Bytes) -> Option<PathBuf> {
    (!bytes.is_empty()).then(|| PathBuf::from(text(bytes)))
}

pub(super) fn text(bytes: &Bytes) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// How this process sees the filesystem, as clients say theirs.
pub(super) fn own_namespace() -> Bytes {
    Bytes::from(kache_client::os::view(Path::new("/")))
}

/// What a compile came to, and whether that is all of what it said.
pub(super) fn captured(ran: Ran) -> (Captured, bool) {
    let exit = match ran.exit_code {
        Some(code) => Exit::Code(code),
        None => Exit::Signal(ran.signal),
    };
    let captured = Captured {
        exit,
        output: ran.said.into_iter().map(piece).collect(),
        started: UNIX_EPOCH + Duration::from_micros(ran.started_us),
        wall: Duration::from_micros(ran.wall_us),
        cpu: Duration::from_micros(ran.cpu_us),
    };
    (captured, !ran.said_is_cut)
}

fn piece(said: Said) -> Piece {
    let stream = match said.stream() {
        said::Stream::Stdout => Stream::Stdout,
        said::Stream::Stderr => Stream::Stderr,
    };
    Piece { stream, bytes: said.bytes }
}

/// The last word to a client, and whether units are laid down for its cargo next.
pub(super) fn reply(reply: Reply, seeds: bool) -> reply::Kind {
    match reply {
        Reply::Done { said, exit_code } => {
            reply::Kind::Done(Done { said: said.into_iter().map(said_of).collect(), exit_code, seeds })
        }
        Reply::PassOn { argv, why } => reply::Kind::PassOn(PassOn {
            argv: argv.into_iter().map(bytes).collect(),
            reason: why.to_string(),
            seeds,
        }),
    }
}

/// The target directory that a client is to guard.
pub(super) fn guard(target_dir: PathBuf, profiles: Vec<PathBuf>) -> reply::Kind {
    let path = |path: PathBuf| bytes(path.into_os_string());
    reply::Kind::Guard(Guard {
        target_dir: path(target_dir),
        profiles: profiles.into_iter().map(path).collect(),
    })
}

/// What a client is to run.
pub(super) fn run(run: pipeline::Run) -> reply::Kind {
    let assignment = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        bytes(name)
    };
    let replacement = |(from, to): (Vec<u8>, Vec<u8>)| Replacement { from: from.into(), to: to.into() };
    reply::Kind::Run(Run {
        argv: run.argv.into_iter().map(bytes).collect(),
        env_set: run.variables.into_iter().map(assignment).collect(),
        env_unset: Vec::new(),
        unlink: run.unlink.into_iter().map(|path| bytes(path.into_os_string())).collect(),
        replacements: run.replacements.into_iter().map(replacement).collect(),
        feed_stdin: run.feed_stdin,
    })
}

pub(super) fn bytes(text: OsString) -> Bytes {
    Bytes::from(text.into_vec())
}

fn said_of(piece: Piece) -> Said {
    let stream = match piece.stream {
        Stream::Stdout => said::Stream::Stdout,
        Stream::Stderr => said::Stream::Stderr,
    };
    Said { stream: stream.into(), bytes: piece.bytes }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_call_arrives_as_it_was_sent() {
        let compile = Compile {
            argv: vec![Bytes::from_static(b"rustc"), Bytes::from_static(b"\xff")],
            cwd: Bytes::from_static(b"/w"),
            env: vec![Bytes::from_static(b"A=1=2"), Bytes::from_static(b"B="), Bytes::from_static(b"C")],
            umask: 0o22,
            ..Compile::default()
        };
        let call = call(&compile);
        assert_eq!(call.argv[1].as_bytes(), b"\xff");
        assert_eq!(call.env.get("A").unwrap(), "1=2");
        assert_eq!(call.env.get("B").unwrap(), "", "empty is not unset");
        assert_eq!(call.env.get("D"), None);
    }

    #[test]
    fn rst_09_a_signal_is_no_code() {
        let ended = |ran| captured(ran).0.exit;
        assert_eq!(ended(Ran { signal: 9, ..Ran::default() }), Exit::Signal(9));
        assert_eq!(ended(Ran { exit_code: Some(0), ..Ran::default() }), Exit::Code(0));
    }
}
