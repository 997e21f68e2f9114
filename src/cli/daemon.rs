//! `kache daemon`: shows, starts and stops the daemon, and shows its log.
//!
//! `status` and `log` start nothing and change nothing (DMN-06). No command kills a daemon
//! (DMN-05): where one does not answer, the error names its process id and how to end it.

use std::time::{Duration, Instant};

use kache_client::control::{DaemonStatus, RemoteStatus, StreamError, reply, request};
use kache_client::os::{self, Lock, LockError};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent, Started, VERSION};

use super::args::{DaemonArgs, DaemonCommand, LogArgs, RunArgs, StatusArgs};
use super::config::load_here;
use super::exit_codes::{NOT_RUNNING, OK, STORE_PROBLEM};
use super::failure::{CommandResult, Failure};
use super::{output, starter};
use crate::config::{self, ConfigSources, Environment, Settings};
use crate::daemon::{self as engine, Mode};

/// The time between two looks at a store that is being opened or a daemon that is stopping.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// How long `start` waits for the store; after that it says that the store is still being opened.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How much of the log's end is read: the largest size of a log file, so mostly all of it.
const LOG_BYTES_SHOWN_MAX: u64 = engine::LOG_BYTES_MAX;

pub(super) fn run(args: DaemonArgs) -> CommandResult {
    match args.command.unwrap_or(DaemonCommand::Status(StatusArgs::default())) {
        DaemonCommand::Status(args) => status(&args),
        DaemonCommand::Run(args) => run_here(&args),
        DaemonCommand::Start => start(),
        DaemonCommand::Stop => stop(),
        DaemonCommand::Restart => restart(),
        DaemonCommand::Log(args) => log(&args),
    }
}

fn settings() -> Result<Settings, Failure> {
    Ok(Settings::new(&load_here()?)?)
}

fn status(args: &StatusArgs) -> CommandResult {
    let settings = settings()?;
    let connection = DaemonConnection::open(&settings.address, Intent::Look, soon());
    let mut connection = match connection {
        Err(ConnectError::NotRunning) => {
            let text = if args.json { "{\"running\":false}\n".to_owned() } else { not_running(&settings) };
            return output::data(&text).map(|()| NOT_RUNNING);
        }
        other => other?,
    };
    let status = ask_status(&mut connection)?;
    output::data(&if args.json { json(&status) } else { text(&status) })?;
    Ok(if problems(&status).is_empty() { OK } else { STORE_PROBLEM })
}

fn not_running(settings: &Settings) -> String {
    format!("no daemon is running\n  store      {}\n", settings.address.cache_dir().display())
}

fn ask_status(connection: &mut DaemonConnection) -> Result<DaemonStatus, Failure> {
    match ask(connection, request::Kind::Status(request::Status {}))? {
        reply::Kind::Status(status) => Ok(*status),
        _ => Err(ConnectError::Garbled(StreamError::Closed).into()),
    }
}

fn ask(connection: &mut DaemonConnection, kind: request::Kind) -> Result<reply::Kind, Failure> {
    match connection.request(kind, soon()) {
        Ok(reply::Kind::Failed(failed)) => Err(Failure::new(failed.message)),
        Ok(reply) => Ok(reply),
        Err(StreamError::Late) => {
            Err(ConnectError::Hung { pid: i32::try_from(connection.daemon_pid()).ok() }.into())
        }
        Err(error) => Err(ConnectError::Garbled(error).into()),
    }
}

fn soon() -> Instant {
    Instant::now() + HELLO_WAIT_MAX
}

/// The problems that the daemon reports of its store.
fn problems(status: &DaemonStatus) -> &[String] {
    status.store.as_ref().map_or(&[], |store| &store.troubles)
}

fn text(status: &DaemonStatus) -> String {
    let store = status.store.clone().unwrap_or_default();
    let uptime = output::duration(Duration::from_secs(status.uptime_s));
    let mut text = format!("kache daemon {} is running (pid {}), for {uptime}\n", status.version, status.pid);
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<10} {value}\n"));
    line("store", &format!("{} ({})", status.cache_dir, status.store_state));
    line("size", &format!("{} of {}", output::size(store.physical_bytes), output::size(store.limit_bytes)));
    line("contents", &content(&store));
    for (index, address) in status.listening.iter().enumerate() {
        line(if index == 0 { "listening" } else { "" }, address);
    }
    line(
        "in flight",
        &format!("{} requests, {} connections", status.requests_in_flight, status.connections_open),
    );
    for (index, remote) in status.remotes.iter().enumerate() {
        line(if index == 0 { "remotes" } else { "" }, &remote_text(remote));
    }
    line("stops", &stops(status.idle_timeout_s));
    line("log", &status.log_file);
    for problem in &store.troubles {
        line("problem", problem);
    }
    text
}

fn content(store: &kache_client::control::StoreStatus) -> String {
    let logical = output::size(store.logical_bytes);
    format!("{} blobs with {logical}, about {} action results", store.blobs, store.action_results)
}

fn remote_text(remote: &RemoteStatus) -> String {
    let use_of_it = match (remote.reads, remote.writes) {
        (true, true) => "read and written",
        (false, true) => "written",
        (_, false) => "read",
    };
    let waiting = match remote.uploads_waiting {
        0 => String::new(),
        waiting => format!(", {waiting} uploads wait"),
    };
    let dropped = match remote.uploads_dropped {
        0 => String::new(),
        dropped => format!(", {dropped} were dropped"),
    };
    let trouble = match &*remote.trouble {
        "" => String::new(),
        trouble => format!("; not used until it answers again: {trouble}"),
    };
    let refusals: String = remote.refusals.iter().map(|refusal| format!("; refuses {refusal}")).collect();
    format!("{} ({use_of_it}{waiting}{dropped}){trouble}{refusals}", remote.location)
}

fn remote_json(remote: &RemoteStatus) -> serde_json::Value {
    serde_json::json!({
        "location": remote.location,
        "reads": remote.reads,
        "writes": remote.writes,
        "trouble": remote.trouble,
        "uploads_waiting": remote.uploads_waiting,
        "uploads_dropped": remote.uploads_dropped,
        "refusals": remote.refusals,
    })
}

fn stops(idle_timeout_s: u64) -> String {
    match idle_timeout_s {
        0 => "only when told to".to_owned(),
        seconds => format!("after {} without a request", output::duration(Duration::from_secs(seconds))),
    }
}

fn json(status: &DaemonStatus) -> String {
    let store = status.store.clone().unwrap_or_default();
    let value = serde_json::json!({
        "running": true,
        "pid": status.pid,
        "version": status.version,
        "uptime_s": status.uptime_s,
        "idle_timeout_s": status.idle_timeout_s,
        "cache_dir": status.cache_dir,
        "listening": status.listening,
        "log_file": status.log_file,
        "requests_in_flight": status.requests_in_flight,
        "connections_open": status.connections_open,
        "remotes": status.remotes.iter().map(remote_json).collect::<Vec<_>>(),
        "store": {
            "state": status.store_state,
            "physical_bytes": store.physical_bytes,
            "logical_bytes": store.logical_bytes,
            "limit_bytes": store.limit_bytes,
            "blobs": store.blobs,
            "action_results": store.action_results,
            "troubles": store.troubles,
        },
    });
    format!("{value:#}\n")
}

/// Runs the daemon in this process. A daemon in the foreground reads the configuration of the
/// current directory; a detached one has all its settings in its environment (DMN-01).
fn run_here(args: &RunArgs) -> CommandResult {
    if !args.detach {
        engine::run(&settings()?, Mode::Foreground).map_err(Failure::new)?;
        return Ok(OK);
    }
    let mut starter = os::detach()?;
    match handed_settings() {
        Ok(settings) => {
            engine::run(&settings, Mode::Detached(starter)).map_err(Failure::new)?;
            Ok(OK)
        }
        Err(failure) => {
            starter.write_line(&failure.message);
            Err(failure)
        }
    }
}

fn handed_settings() -> Result<Settings, Failure> {
    let sources = ConfigSources { environment: Environment::of_process(), current_dir: None };
    Ok(Settings::new(&config::load(&sources)?)?)
}

fn start() -> CommandResult {
    let (mut connection, started) = starter::starter(&settings()?)?.ensure(starter::deadline())?;
    let status = wait_for_store(&mut connection)?;
    let how = match started {
        Started::AlreadyRunning => "is already running",
        Started::New => "started",
        Started::Replaced => "started and replaced an older one",
    };
    output::message(&format!("kache: daemon {} (pid {})", how, status.pid));
    for problem in problems(&status) {
        output::message(&format!("kache: warning: {problem}"));
    }
    if status.store_state == "opening" {
        output::message("kache: the store is still being opened");
    }
    Ok(if problems(&status).is_empty() { OK } else { STORE_PROBLEM })
}

/// Waits until the daemon's store is open or cannot be opened, `STORE_WAIT_MAX` at most, and
/// returns the daemon's status.
pub(super) fn wait_for_store(connection: &mut DaemonConnection) -> Result<DaemonStatus, Failure> {
    let give_up = Instant::now() + STORE_WAIT_MAX;
    loop {
        let status = ask_status(connection)?;
        if status.store_state != "opening" || Instant::now() > give_up {
            return Ok(status);
        }
        std::thread::sleep(POLL_EVERY);
    }
}

fn stop() -> CommandResult {
    match stop_running(&settings()?)? {
        Some(pid) => output::message(&format!("kache: daemon stopped (pid {pid})")),
        None => output::message("kache: no daemon is running"),
    }
    Ok(OK)
}

/// Stops the running daemon, waits until it is gone and returns its process id; `None` if no
/// daemon was running.
///
/// A daemon counts as gone once its lock is free. One that holds the lock but does not listen
/// yet, because it is just starting, is told to stop as soon as it listens.
fn stop_running(settings: &Settings) -> Result<Option<u32>, Failure> {
    let deadline = starter::deadline();
    let mut stopped_pid = None;
    loop {
        match DaemonConnection::open(&settings.address, Intent::Use, soon()) {
            Ok(mut connection) if stopped_pid.is_none() => {
                stopped_pid = Some(connection.daemon_pid());
                ask(&mut connection, request::Kind::Stop(request::Stop::default()))?;
            }
            // Another process has started the next daemon already. It must not be stopped too, so
            // the process ids are compared.
            Ok(connection) if stopped_pid != Some(connection.daemon_pid()) => return Ok(stopped_pid),
            Ok(_) | Err(ConnectError::NotRunning | ConnectError::Refused { leaving: true, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // Without a socket directory there is no lock file, and no daemon.
        if !settings.address.check().map_err(ConnectError::Dir)? {
            return Ok(stopped_pid);
        }
        match Lock::take(&settings.address.daemon_lock()) {
            Ok(_free) => return Ok(stopped_pid),
            Err(LockError::Held { .. }) if Instant::now() < deadline => std::thread::sleep(POLL_EVERY),
            Err(LockError::Held { .. }) => {
                return Err(Failure::new("the daemon was told to stop and is still running")
                    .hint("`kache daemon log` may say what it is waiting for"));
            }
            Err(error) => return Err(Failure::new(error)),
        }
    }
}

fn restart() -> CommandResult {
    stop_running(&settings()?)?;
    start()
}

fn log(args: &LogArgs) -> CommandResult {
    let settings = settings()?;
    let Some(path) = settings.log.file else {
        return Err(Failure::new("no directory for the log is known").hint("set KACHE_LOG_FILE_PATH"));
    };
    if args.path {
        return output::data(&format!("{}\n", path.display())).map(|()| OK);
    }
    let text = match read_end(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("there is no log file `{}`", path.display()))
                .hint(format!("no daemon of kache {VERSION} has run for this store yet")));
        }
        Err(error) => return Err(Failure::new(format!("failed to read `{}`: {error}", path.display()))),
    };
    output::data(last_lines(&text, args.lines)).map(|()| OK)
}

/// Reads at most `LOG_BYTES_SHOWN_MAX` from the end of the file.
fn read_end(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOG_BYTES_SHOWN_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_SHOWN_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str, count: usize) -> &str {
    let ends = text.trim_end_matches('\n').rmatch_indices('\n').map(|(index, _)| index + 1);
    match (count, ends.take(count).nth(count.saturating_sub(1))) {
        (0, _) => "",
        (_, Some(start)) => &text[start..],
        (_, None) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_log_are_whole() {
        for (text, count, expected) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text, count), expected, "{text:?} {count}");
        }
    }
}
