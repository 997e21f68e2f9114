//! Converts compiler calls and replies between the messages of the control protocol and the types of
//! the pipeline.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use kache_client::control::{Compile, Done, Failed, Guard, PassOn, Ran, Replacement, Run, Said, reply, said};

use tokio::sync::mpsc;

use crate::compile::{Captured, Exit, MessagePiece, MessageStream};
use crate::invocation::{Call, Environment, variable};
use crate::pipeline::{CallReply, CompilerCommand};

/// Converts the request of a client into a call.
pub(super) fn call(compile: &Compile) -> Call {
    Call {
        argv: compile.argv.iter().map(os_string).collect(),
        cwd: PathBuf::from(os_string(&compile.cwd)),
        env: compile.env.iter().map(|pair| variable(pair)).collect::<Environment>(),
        umask: compile.umask,
        stdin: compile.stdin.clone(),
    }
}

/// Converts a path; an empty one means `None`.
pub(super) fn optional_path(bytes: &Bytes) -> Option<PathBuf> {
    (!bytes.is_empty()).then(|| PathBuf::from(os_string(bytes)))
}

/// Makes the reply to a request that was understood and failed.
pub(super) fn failed(message: String) -> reply::Kind {
    reply::Kind::Failed(Failed { message })
}

/// Sends a reply without waiting. It is dropped if the client is gone or reads nothing.
pub(super) fn send(replies: &mpsc::WeakSender<reply::Kind>, kind: reply::Kind) {
    if let Some(replies) = replies.upgrade() {
        let _ = replies.try_send(kind);
    }
}

pub(super) fn os_string(bytes: &Bytes) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Returns this process's view of the filesystem, to be compared with the one that a client sends.
pub(super) fn own_namespace() -> Bytes {
    Bytes::from(kache_client::os::filesystem_view(Path::new("/")))
}

/// Converts the report of a compiler that ran. The second value is whether it holds all messages.
pub(super) fn captured(ran: Ran) -> (Captured, bool) {
    let exit = match ran.exit_code {
        Some(code) => Exit::Code(code),
        None => Exit::Signal(ran.signal),
    };
    let captured = Captured {
        exit,
        messages: ran.said.into_iter().map(piece).collect(),
        started: UNIX_EPOCH + Duration::from_micros(ran.started_us),
        wall: Duration::from_micros(ran.wall_us),
        cpu: Duration::from_micros(ran.cpu_us),
    };
    (captured, !ran.said_is_cut)
}

fn piece(said: Said) -> MessagePiece {
    let stream = match said.stream() {
        said::Stream::Stdout => MessageStream::Stdout,
        said::Stream::Stderr => MessageStream::Stderr,
    };
    MessagePiece { stream, bytes: said.bytes }
}

/// Converts the reply to a call. `seeds` says that the client has to leave a guard behind, because a
/// target directory is seeded next.
pub(super) fn reply(reply: CallReply, seeds: bool) -> reply::Kind {
    match reply {
        CallReply::Done { messages, exit_code } => reply::Kind::Done(Done {
            said: messages.into_iter().map(said_message).collect(),
            exit_code,
            seeds,
        }),
        CallReply::PassOn { argv, why } => reply::Kind::PassOn(PassOn {
            argv: argv.into_iter().map(bytes).collect(),
            reason: why.to_string(),
            seeds,
        }),
    }
}

/// Returns the message that tells a client's guard which directories to lock.
pub(super) fn guard(target_dir: PathBuf, profiles: Vec<PathBuf>) -> reply::Kind {
    let path = |path: PathBuf| bytes(path.into_os_string());
    reply::Kind::Guard(Guard {
        target_dir: path(target_dir),
        profiles: profiles.into_iter().map(path).collect(),
    })
}

/// Converts the command that a client is to run.
pub(super) fn run(run: CompilerCommand) -> reply::Kind {
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

fn said_message(piece: MessagePiece) -> Said {
    let stream = match piece.stream {
        MessageStream::Stdout => said::Stream::Stdout,
        MessageStream::Stderr => said::Stream::Stderr,
    };
    Said { stream: stream.into(), bytes: piece.bytes }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_call_is_converted_without_loss() {
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
    fn rst_09_a_signal_is_not_an_exit_code() {
        let ended = |ran| captured(ran).0.exit;
        assert_eq!(ended(Ran { signal: 9, ..Ran::default() }), Exit::Signal(9));
        assert_eq!(ended(Ran { exit_code: Some(0), ..Ran::default() }), Exit::Code(0));
    }
}
