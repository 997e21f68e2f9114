//! What a call is answered.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::compile::MessagePiece;
use crate::invocation::Bypass;

use super::flights::Follower;
use super::pending::{Pending, Ticket};
use super::seeding::Seeding;
use super::verify::Verification;

/// How a call began.
#[derive(Debug)]
pub enum Begun {
    /// It is over, for kache.
    Answer(Reply),
    /// It is over, and the result is to be made once more and compared, when there is time.
    Verify(Reply, Box<Verification>),
    /// It is over, and what cargo would ask for next is to be laid down meanwhile.
    Seed(Reply, Box<Seeding>),
    /// The compiler is to be run, and the ticket handed back with what came of it.
    Run(Run, Box<Ticket>),
    /// Another call compiles the same: when that is over, go on with this.
    Wait(Follower, Box<Pending>),
}

/// The last word to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Everything is in place: say this, and end with this code.
    Done {
        /// What to say.
        said: Vec<MessagePiece>,
        /// The compiler's code.
        exit_code: i32,
    },
    /// Run this as if kache were not there.
    PassOn {
        /// The command line, the program first.
        argv: Vec<OsString>,
        /// Why.
        why: Bypass,
    },
}

/// A compiler to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The command line, the program first.
    pub argv: Vec<OsString>,
    /// Variables to be set for it alone.
    pub variables: Vec<(OsString, OsString)>,
    /// Outputs to be removed first (RST-11).
    pub unlink: Vec<PathBuf>,
    /// What to put in place of what in the lines that are let through.
    pub replacements: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the compiler reads what came on standard input.
    pub feed_stdin: bool,
}
