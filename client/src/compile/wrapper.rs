//! A call of a compiler that the daemon supports, from argv to the exit code.
//!
//! Invariant (RST-05): before a compiler runs, the staging directory of its call is gone, so that
//! the daemon can no longer change the outputs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_proto::control::{Done, PassOn, Ran, Reply, Request, Run, reply, request};

use super::call_stdin::CallStdin;
use super::embedded::{self, CompileBackend};
use super::exchange::{self, CompileReply};
use super::exit;
use super::fallback_reason::FallbackReason;
use super::guard;
use super::locate;
use super::pass_on;
use super::request::{compile_request, from_bytes};
use super::running::{self, EndedCompiler, has_file_name, print};
use crate::address::DaemonAddress;
use crate::control::{FrameStream, StreamError};
use crate::staging::StagingDirectory;
use crate::variables;

/// The time that the client waits until the daemon has recorded a compile, which is one line in a
/// file.
const NOTING_WAIT_MAX: Duration = Duration::from_secs(1);

/// The compilers that the daemon supports.
const DRIVERS: [&str; 2] = ["rustc", "clippy-driver"];

/// Returns whether the daemon supports this compiler. The first argument counts as well, because a
/// wrapper for workspace members is followed by the compiler that it wraps.
pub(crate) fn is_supported(program: &OsStr, args: &[OsString]) -> bool {
    let is_driver = |word: &OsStr| DRIVERS.iter().any(|name| has_file_name(word, name));
    is_driver(program) || args.first().is_some_and(|first| is_driver(first))
}

/// Makes the call, with the daemon's help if possible. It returns the compiler's exit code, or the
/// compiler replaces this process and it does not return.
pub(crate) fn wrap(program: &OsStr, args: &[OsString]) -> ExitCode {
    if variables::is_on(variables::get(variables::DISABLED).as_deref()) {
        return pass_on::without_kache(program, args, CallStdin::Untouched);
    }
    if variables::get(variables::DAEMON).is_some_and(|value| value == "never") {
        return embedded::exec_engine(program, args);
    }
    let stdin = CallStdin::read(args);
    let Some((cwd, address)) = locate_daemon() else { return pass_on::without_kache(program, args, stdin) };
    let staging = StagingDirectory::of_call(args, &cwd);
    let request = compile_request(program, args, &cwd, &stdin, staging.as_ref());
    let reply = exchange::request_compile(&address, request);
    // Before anything else happens with the reply: only a hit may leave outputs here, and every other reply starts
    // a compiler, which writes to the same paths.
    keep_or_revoke(staging, matches!(reply, CompileReply::Done(..)));
    match reply {
        CompileReply::Done(done, stream) => {
            // The guard starts before this process ends, because cargo goes on then.
            if done.seeds {
                guard::spawn_guard(stream);
            }
            finish(&done)
        }
        CompileReply::Run(run, stream) => {
            let report = |ran| report(&address, with_staging(ran, args, &cwd), stream);
            run_and_report(&run, report, program, args, stdin)
        }
        CompileReply::PassOn(pass_on, stream) => {
            if pass_on.seeds {
                guard::spawn_guard(stream);
            }
            exec_passed_on(&pass_on, program, args, stdin)
        }
        CompileReply::NoDaemon(abandoned) => {
            // Closed only now that the staging directory is revoked; see `CompileReply::NoDaemon`.
            drop(abandoned);
            pass_on::without_kache(program, args, stdin)
        }
    }
}

/// Ends the use of a staging directory, after which the daemon changes nothing more beside the outputs.
/// If the daemon is done, the restored outputs stay; otherwise they are removed.
fn keep_or_revoke(staging: Option<StagingDirectory>, is_done: bool) {
    match staging {
        Some(staging) if is_done => staging.keep(),
        Some(staging) => staging.revoke(),
        None => {}
    }
}

/// Makes the call with a backend in this process in place of the daemon. It returns as [`wrap`] does.
pub fn compile_with(backend: &mut dyn CompileBackend, program: &OsStr, args: &[OsString]) -> ExitCode {
    let stdin = CallStdin::read(args);
    let Ok(cwd) = std::env::current_dir() else { return pass_on::without_kache(program, args, stdin) };
    let staging = StagingDirectory::of_call(args, &cwd);
    let reply = backend.begin(compile_request(program, args, &cwd, &stdin, staging.as_ref()));
    keep_or_revoke(staging, matches!(reply, Some(reply::Kind::Done(_))));
    match reply {
        Some(reply::Kind::Done(done)) => finish(&done),
        Some(reply::Kind::Run(run)) => {
            let report = |ran| {
                let (ran, staging) = with_staging(ran, args, &cwd);
                backend.finish(ran);
                keep_or_revoke(staging, true);
            };
            run_and_report(&run, report, program, args, stdin)
        }
        Some(reply::Kind::PassOn(pass_on)) => exec_passed_on(&pass_on, program, args, stdin),
        _ => pass_on::without_kache(program, args, stdin),
    }
}

/// Returns the directory of the call and the address of its daemon.
fn locate_daemon() -> Option<(PathBuf, DaemonAddress)> {
    let cwd = std::env::current_dir().ok()?;
    let address = locate::daemon_address(&cwd)?;
    Some((cwd, address))
}

/// Prints the messages of a hit.
fn finish(done: &Done) -> ExitCode {
    for message in &done.said {
        print(message.stream(), &message.bytes);
    }
    exit::exit_code(done.exit_code)
}

fn exec_passed_on(pass_on: &PassOn, program: &OsStr, args: &[OsString], stdin: CallStdin) -> ExitCode {
    let argv: Vec<OsString> = pass_on.argv.iter().map(from_bytes).collect();
    pass_on::exec_first(&argv, program, args, stdin)
}

fn run_and_report(
    run: &Run,
    report: impl FnOnce(Ran),
    program: &OsStr,
    args: &[OsString],
    stdin: CallStdin,
) -> ExitCode {
    match running::run(run, &stdin) {
        Ok(EndedCompiler { status, ran }) => {
            report(ran);
            exit::exit_like(status)
        }
        // If the daemon's command line cannot be started, the call's own is tried, so that the
        // error is the one that the user would get without kache.
        Err(_) => {
            drop(report);
            pass_on::without_kache(program, args, stdin)
        }
    }
}

/// Makes a staging directory for what the daemon changes beside the outputs before it replies, and names
/// it in the report.
fn with_staging(ran: Ran, args: &[OsString], cwd: &Path) -> (Ran, Option<StagingDirectory>) {
    let staging = StagingDirectory::of_call(args, cwd);
    let path = staging.as_ref().map(|staging| staging.path().as_os_str().as_bytes());
    (Ran { staging: Bytes::copy_from_slice(path.unwrap_or_default()), ..ran }, staging)
}

/// Reports how the compiler ended, and waits until the daemon has recorded it (DMN-07). If the
/// daemon does not answer in time, this call goes on, the daemon can no longer change anything beside
/// the outputs, and the next calls do not wait for it.
fn report(address: &DaemonAddress, (ran, staging): (Ran, Option<StagingDirectory>), mut stream: FrameStream) {
    let deadline = Instant::now() + NOTING_WAIT_MAX;
    let sent = stream.send(&Request { kind: Some(request::Kind::Ran(ran)) }, deadline);
    let recorded = sent.and_then(|()| stream.receive::<Reply>(deadline).map(drop));
    keep_or_revoke(staging, recorded.is_ok());
    if matches!(recorded, Err(StreamError::Late)) {
        FallbackReason::NoAnswer.record(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_compilers_are_recognised_also_behind_a_wrapper() {
        for (call, expected) in [
            (&["rustc", "-vV"][..], true),
            (&["/toolchain/bin/rustc", "x.rs"], true),
            (&["/bin/clippy-driver", "/bin/rustc", "x.rs"], true),
            (&["/my/wrapper", "/bin/rustc", "x.rs"], true),
            (&["/usr/bin/cc", "-c", "x.c"], false),
            (&["/bin/rustc-not"], false),
        ] {
            let words: Vec<OsString> = call.iter().map(OsString::from).collect();
            assert_eq!(is_supported(&words[0], &words[1..]), expected, "{call:?}");
        }
    }
}
