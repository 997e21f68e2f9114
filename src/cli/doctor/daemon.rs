//! The daemon: its directory, its answer, and what it says of its store. It is not started.

use std::fs;
use std::time::Instant;

use kache_client::control::{DaemonStatus, reply, request};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent, VERSION};

use super::finding::{Finding, State};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::Settings;

const SUBJECT: &str = "daemon";
const STORE: &str = "store";

pub(super) fn look(settings: &Settings, may_have_one: bool) -> Vec<Finding> {
    let connection = DaemonConnection::open(&settings.address, Intent::Look, Instant::now() + HELLO_WAIT_MAX);
    let mut connection = match connection {
        Ok(connection) => connection,
        Err(ConnectError::NotRunning) if !may_have_one => {
            return vec![Finding::new(State::Note, SUBJECT, "none runs, and no compile may start one")];
        }
        Err(ConnectError::NotRunning) => return vec![absent(settings)],
        Err(error) => return vec![unreachable(error)],
    };
    let mut findings = vec![present(&connection)];
    match connection.request(request::Kind::Status(request::Status {}), Instant::now() + HELLO_WAIT_MAX) {
        Ok(reply::Kind::Status(status)) => findings.extend(store(&status)),
        Ok(_) => {
            findings.push(Finding::new(State::Wrong, SUBJECT, "it answers something else than was asked"));
        }
        Err(error) => {
            findings.push(Finding::new(State::Wrong, SUBJECT, format!("it does not answer: {error}")));
        }
    }
    findings
}

/// None runs. That is as it should be between builds.
fn absent(settings: &Settings) -> Finding {
    let left = fs::symlink_metadata(settings.address.control_socket()).is_ok();
    let what = if left {
        "none runs; one that died left its socket behind, which the next one removes"
    } else {
        "none runs; a compile starts it"
    };
    Finding::new(State::Note, SUBJECT, what)
        .hint("`kache daemon start` starts it now and says what is wrong if it cannot")
}

/// The same words and hints as every command has for it.
fn unreachable(error: ConnectError) -> Finding {
    let is_dir = matches!(error, ConnectError::Dir(_));
    let failure = Failure::from(error);
    let mut finding = Finding::new(State::Wrong, SUBJECT, failure.message);
    finding.hints = failure.hints;
    if is_dir {
        finding = finding
            .hint("remove it or make it yours, with mode 0700; or choose another with KACHE_SOCKET_DIR");
    }
    finding
}

fn present(connection: &DaemonConnection) -> Finding {
    let (version, pid) = (connection.daemon_version(), connection.daemon_pid());
    if version == VERSION {
        return Finding::new(State::Good, SUBJECT, format!("kache {version} answers (pid {pid})"));
    }
    let what = format!("kache {version} answers (pid {pid}), and this is kache {VERSION}");
    Finding::new(State::Warning, SUBJECT, what).hint("`kache daemon restart`")
}

fn store(status: &DaemonStatus) -> Vec<Finding> {
    let store = status.store.clone().unwrap_or_default();
    let sizes = format!("{} of {}", output::size(store.physical_bytes), output::size(store.limit_bytes));
    let state = match status.store_state.as_str() {
        "open" if store.troubles.is_empty() => State::Good,
        "open" | "unusable" => State::Wrong,
        _ => State::Note,
    };
    let what = format!("`{}` is {}, {sizes}", status.cache_dir, status.store_state);
    let mut findings = vec![Finding::new(state, STORE, what)];
    let troubles = store.troubles.iter().map(|trouble| Finding::new(State::Wrong, STORE, trouble));
    findings.extend(troubles);
    findings
}
