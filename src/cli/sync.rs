//! `kache sync`: asks the daemon to copy results between the store and remotes, and prints what it did.

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use kache_client::control::{
    StreamError, Sync, SyncEnd, SyncFailure, SyncProgress, SyncTotal, reply, request, sync, sync_failure,
};
use kache_client::{DaemonConnection, assignment};

use super::args::SyncArgs;
use super::config::load_here;
use super::daemon::wait_for_store;
use super::exit_codes::{FAILURE, OK};
use super::failure::{CommandResult, Failure};
use super::{output, starter};
use crate::cargo;
use crate::config::{Environment, Settings, env_vars};

/// The longest silence of the daemon. It says more often how far it has come, except while it waits for a remote
/// that does not answer, which has limits of its own.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The shortest time between two lines about progress.
const TELL_EVERY: Duration = Duration::from_secs(2);

pub(super) fn run(args: &SyncArgs) -> CommandResult {
    let settings = Settings::new(&load_here()?)?;
    if !Environment::of_process().may_have_daemon() {
        return Err(Failure::new("`kache sync` needs the daemon, which `KACHE_DAEMON` forbids")
            .hint("unset `KACHE_DAEMON` for this command"));
    }
    let request = request(args)?;
    let (mut connection, _) = starter::starter(&settings)?.ensure(starter::deadline())?;
    wait_for_store(&mut connection)?;
    let end = sync(&mut connection, request)?;
    output::data(&end.totals.iter().map(|total| total_text(total, args.dry_run)).collect::<String>())?;
    for failure in &end.failures {
        output::message(&format!("kache: {}", failure_text(failure)));
    }
    Ok(if end.failures.is_empty() { OK } else { FAILURE })
}

/// Makes the request. Without `--pull` and `--push`, both directions are copied.
fn request(args: &SyncArgs) -> Result<Sync, Failure> {
    let is_one_way = args.pull || args.push || args.all;
    let pulls = args.pull || !is_one_way;
    let push = match () {
        () if args.all => sync::Push::Everything,
        () if args.pull => sync::Push::Nothing,
        () if args.workspace => sync::Push::Workspace,
        () => sync::Push::Queued,
    };
    let cwd = std::env::current_dir()?;
    let needs_workspace = pulls || push == sync::Push::Workspace;
    let workspace = if needs_workspace { members(&cwd, args.manifest_path.as_deref())? } else { Vec::new() };
    Ok(Sync {
        cwd: cwd.into_os_string().into_vec().into(),
        env: env_vars::of_process().map(assignment).collect(),
        workspace,
        pull: pulls,
        push: push.into(),
        dry_run: args.dry_run,
    })
}

/// Returns the names of the packages in the workspace.
fn members(cwd: &Path, manifest: Option<&Path>) -> Result<Vec<String>, Failure> {
    let root = cargo::workspace::root(cwd, manifest).ok_or_else(|| {
        Failure::new("there is no cargo workspace here")
            .hint("`--manifest-path` names one; `--push` needs none")
    })?;
    let members = cargo::workspace::members(&root).filter(|members| !members.is_empty());
    members.ok_or_else(|| {
        Failure::new(format!("`{}` has no `Cargo.lock` by which its builds are known", root.display()))
            .hint("`cargo generate-lockfile` makes one")
    })
}

/// Sends the request and prints how far the sync has come, until it has ended.
fn sync(connection: &mut DaemonConnection, request: Sync) -> Result<SyncEnd, Failure> {
    let mut told = Instant::now();
    let mut response = connection.request(request::Kind::Sync(request), Instant::now() + SILENCE_MAX);
    loop {
        match response {
            Ok(reply::Kind::SyncProgress(progress)) => {
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    output::message(&format!("kache: {}", progress_text(&progress)));
                }
            }
            Ok(reply::Kind::SyncEnd(end)) => return Ok(end),
            Ok(reply::Kind::Failed(failed)) => return Err(Failure::new(failed.message)),
            Ok(_) => {
                return Err(Failure::new("the daemon sent an unexpected response")
                    .hint("`kache daemon restart` starts a daemon of this version"));
            }
            Err(StreamError::Late) => return Err(Failure::new("the daemon does not answer")),
            Err(error) => return Err(Failure::new(error)),
        }
        response = connection.next_reply(Instant::now() + SILENCE_MAX);
    }
}

fn progress_text(SyncProgress { remote, is_pull, done, total }: &SyncProgress) -> String {
    let direction = if *is_pull { "from" } else { "to" };
    format!("{done} of {} {direction} {remote}", output::counted(*total, "result"))
}

fn total_text(SyncTotal { remote, is_pull, copied, present }: &SyncTotal, is_dry_run: bool) -> String {
    let results = output::counted(*copied, "result");
    let copied = match (is_pull, is_dry_run) {
        (true, false) => format!("fetched {results} from {remote}"),
        (true, true) => format!("would fetch {results} from {remote}"),
        (false, false) => format!("uploaded {results} to {remote}"),
        (false, true) => format!("would upload {results} to {remote}"),
    };
    match present {
        0 => format!("{copied}\n"),
        present => format!("{copied}; {present} were there\n"),
    }
}

fn failure_text(failure: &SyncFailure) -> String {
    let SyncFailure { remote, message, results, .. } = failure;
    let cause = match failure.cause() {
        sync_failure::Cause::Refused => "refused: ",
        sync_failure::Cause::Unreachable => "unreachable: ",
        sync_failure::Cause::TooLarge => "too large for it: ",
        sync_failure::Cause::NoRoom => "no room here: ",
        sync_failure::Cause::Missing | sync_failure::Cause::Other => "",
    };
    match results {
        0 => format!("{remote}: {cause}{message}"),
        results => format!("{remote}: {} not copied: {cause}{message}", output::counted(*results, "result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_failures_are_one_line_each() {
        let total = SyncTotal { remote: "file:///r".to_owned(), is_pull: true, copied: 1, present: 2 };
        assert_eq!(total_text(&total, false), "fetched 1 result from file:///r; 2 were there\n");
        let total = SyncTotal { is_pull: false, copied: 3, present: 0, ..total };
        assert_eq!(total_text(&total, true), "would upload 3 results to file:///r\n");
        let mut failure = SyncFailure {
            remote: "grpc://h:1".to_owned(),
            message: "read-only".to_owned(),
            results: 4,
            ..SyncFailure::default()
        };
        failure.set_cause(sync_failure::Cause::Refused);
        assert_eq!(failure_text(&failure), "grpc://h:1: 4 results not copied: refused: read-only");
        failure.results = 0;
        failure.set_cause(sync_failure::Cause::Missing);
        assert_eq!(failure_text(&failure), "grpc://h:1: read-only");
    }
}
