//! The instructions of the pipeline to its caller: what to do with a call.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::compile::MessagePiece;
use crate::invocation::Bypass;

use super::call_state::{ReceivedCall, RunningCompile};
use super::coalescer::Follower;
use super::fetch::RemoteLookup;
use super::verify::Verification;

/// The next thing that the caller of the pipeline does with a call.
#[derive(Debug)]
pub enum NextStep {
    /// Send this reply. The call is over.
    Answer(CallReply),
    /// Send this reply. Afterwards, when there is time, compile once more and compare.
    AnswerThenVerify(CallReply, Box<Verification>),
    /// Have the client run the compiler, and hand the running compile to [`super::Pipeline::finish`]
    /// with what the compiler did.
    Run(CompilerCommand, Box<RunningCompile>),
    /// Ask remotes for the result ([`RemoteLookup::ask`]), then let the call proceed.
    AskRemotes(Box<RemoteLookup>),
    /// Wait for the leader that this call follows, then resume the call.
    Wait(Follower, Box<ReceivedCall>),
}

/// The last message to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallReply {
    /// All outputs are restored.
    Done {
        /// The compiler's messages, which the client prints.
        messages: Vec<MessagePiece>,
        /// The compiler's exit code, with which the client exits.
        exit_code: i32,
    },
    /// The client runs this command as if kache were not there.
    PassOn {
        /// The command line; the program comes first.
        argv: Vec<OsString>,
        /// Why the call is not cached.
        why: Bypass,
    },
}

/// How the client is to run the compiler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompilerCommand {
    /// The command line; the program comes first.
    pub argv: Vec<OsString>,
    /// Variables that are set for the compiler alone.
    pub variables: Vec<(OsString, OsString)>,
    /// Outputs that the client removes before the compiler runs (RST-11).
    pub unlink: Vec<PathBuf>,
    /// Pairs of texts: in the compiler's messages the client replaces the first by the second.
    pub replacements: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the compiler reads what came on the client's standard input.
    pub feed_stdin: bool,
}
