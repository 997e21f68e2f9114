//! Checks the daemon's socket directory, its response and its store. It does not start a daemon.

use std::fs;
use std::time::Instant;

use kache_client::control::{DaemonStatus, RemoteStatus, reply, request};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent, VERSION};

use super::finding::{DoctorFinding, Severity};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Settings;

const SUBJECT: &str = "daemon";
const STORE: &str = "store";
const REMOTE: &str = "remote";

/// Checks the daemon. `may_have_daemon` is false where `KACHE_DAEMON=never` is set.
pub(super) fn check(settings: &Settings, may_have_daemon: bool) -> Vec<DoctorFinding> {
    let connection = DaemonConnection::open(&settings.address, Intent::Look, Instant::now() + HELLO_WAIT_MAX);
    let mut connection = match connection {
        Ok(connection) => connection,
        Err(ConnectError::NotRunning) if !may_have_daemon => {
            let what = "no daemon is running, and compiles may not start one";
            return vec![DoctorFinding::new(Severity::Note, SUBJECT, what)];
        }
        Err(ConnectError::NotRunning) => return vec![not_running(settings)],
        Err(error) => return vec![unreachable(error)],
    };
    let mut findings = vec![running(&connection)];
    let error = |what: String| DoctorFinding::new(Severity::Error, SUBJECT, what);
    match connection.request(request::Kind::Status(request::Status {}), Instant::now() + HELLO_WAIT_MAX) {
        Ok(reply::Kind::Status(status)) => {
            findings.extend(store(&status));
            findings.extend(status.remotes.iter().flat_map(remote));
        }
        Ok(_) => findings.push(error("the daemon sent an unexpected response".to_owned())),
        Err(cause) => findings.push(error(format!("the daemon does not answer: {cause}"))),
    }
    findings
}

/// Between builds it is normal that no daemon is running.
fn not_running(settings: &Settings) -> DoctorFinding {
    let has_socket = fs::symlink_metadata(settings.address.control_socket()).is_ok();
    let what = if has_socket {
        "no daemon is running; an earlier one died and left its socket, which the next one removes"
    } else {
        "no daemon is running; the next compile starts one"
    };
    DoctorFinding::new(Severity::Note, SUBJECT, what)
        .hint("`kache daemon start` starts one now, and says why if it cannot")
}

/// Reports a daemon that cannot be reached, with the message and hints of every other command.
fn unreachable(error: ConnectError) -> DoctorFinding {
    let is_dir = matches!(error, ConnectError::Dir(_));
    let failure = Failure::from(error);
    let mut finding = DoctorFinding::new(Severity::Error, SUBJECT, failure.message);
    finding.hints = failure.hints;
    if is_dir {
        finding =
            finding.hint("remove the directory, or make it yours with mode 0700; or set KACHE_SOCKET_DIR");
    }
    finding
}

fn running(connection: &DaemonConnection) -> DoctorFinding {
    let (version, pid) = (connection.daemon_version(), connection.daemon_pid());
    if version == VERSION {
        let what = format!("the daemon of kache {version} answers (pid {pid})");
        return DoctorFinding::new(Severity::Good, SUBJECT, what);
    }
    let what = format!("the daemon is kache {version} (pid {pid}), but this is kache {VERSION}");
    DoctorFinding::new(Severity::Warning, SUBJECT, what)
        .hint("`kache daemon restart` starts one of this version")
}

/// Reports a remote that the daemon does not use at present, and what a remote refuses.
fn remote(status: &RemoteStatus) -> Vec<DoctorFinding> {
    let warning = |what: String| DoctorFinding::new(Severity::Warning, REMOTE, what);
    let name = &status.location;
    let trouble = (!status.trouble.is_empty()).then(|| {
        warning(format!("builds go on without `{name}` until it answers again: {}", status.trouble))
    });
    let refusals = status.refusals.iter().map(|words| warning(format!("`{name}` refuses {words}")));
    trouble.into_iter().chain(refusals).collect()
}

fn store(status: &DaemonStatus) -> Vec<DoctorFinding> {
    let store = status.store.clone().unwrap_or_default();
    let sizes = format!("{} of {}", output::size(store.physical_bytes), output::size(store.limit_bytes));
    let severity = match status.store_state.as_str() {
        "open" if store.troubles.is_empty() => Severity::Good,
        "open" | "unusable" => Severity::Error,
        _ => Severity::Note,
    };
    let what = format!("`{}` is {}, {sizes}", status.cache_dir, status.store_state);
    let mut findings = vec![DoctorFinding::new(severity, STORE, what)];
    let problems = store.troubles.iter().map(|problem| DoctorFinding::new(Severity::Error, STORE, problem));
    findings.extend(problems);
    findings
}
