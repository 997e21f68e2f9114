//! `kache daemon`: its state, its start and its end.
//!
//! `status` and `log` start nothing and change nothing (DMN-06). Nobody is killed (DMN-05):
//! a daemon that does not answer is named, with the command that ends it.

use std::time::{Duration, Instant};

use kache_client::control::{DaemonStatus, StreamError, reply, request};
use kache_client::os::{self, Lock, LockError};
use kache_client::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent, Started, VERSION};

use super::args::{DaemonArgs, DaemonCommand, LogArgs, RunArgs, StatusArgs};
use super::config::load_here;
use super::exit_codes::{NOT_RUNNING, OK, TROUBLE};
use super::failure::{Failure, Outcome};
use super::{output, starter};
use crate::config::{self, Environment, Settings, Sources};
use crate::daemon::{self as engine, Mode};

/// How often a store that is being opened, or a daemon that is leaving, is looked at again.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// How long `start` waits for the store before it says that it is still being opened.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How much of a log is read to show its end: a whole file of ours.
const LOG_BYTES_SHOWN_MAX: u64 = engine::LOG_BYTES_MAX;

pub(super) fn run(args: DaemonArgs) -> Outcome {
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

fn status(args: &StatusArgs) -> Outcome {
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
    Ok(if troubles(&status).is_empty() { OK } else { TROUBLE })
}

fn not_running(settings: &Settings) -> String {
    format!("no daemon is running\n  store      {}\n", settings.address.cache_dir().display())
}

fn ask_status(connection: &mut DaemonConnection) -> Result<DaemonStatus, Failure> {
    match ask(connection, request::Kind::Status(request::Status {}))? {
        reply::Kind::Status(status) => Ok(status),
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

fn troubles(status: &DaemonStatus) -> &[String] {
    status.store.as_ref().map_or(&[], |store| &store.troubles)
}

fn text(status: &DaemonStatus) -> String {
    let store = status.store.clone().unwrap_or_default();
    let uptime = output::duration(Duration::from_secs(status.uptime_s));
    let mut text = format!("kache daemon {} is running (pid {}), for {uptime}\n", status.version, status.pid);
    let mut line = |label: &str, value: &str| text.push_str(&format!("  {label:<10} {value}\n"));
    line("store", &format!("{} ({})", status.cache_dir, status.store_state));
    line("size", &format!("{} of {}", output::size(store.physical_bytes), output::size(store.limit_bytes)));
    line("content", &content(&store));
    for (index, address) in status.listening.iter().enumerate() {
        line(if index == 0 { "listening" } else { "" }, address);
    }
    line("busy", &format!("{} requests, {} connections", status.requests_in_flight, status.connections_open));
    line("leaves", &leaves(status.idle_timeout_s));
    line("log", &status.log_file);
    for trouble in &store.troubles {
        line("trouble", trouble);
    }
    text
}

fn content(store: &kache_client::control::StoreStatus) -> String {
    let logical = output::size(store.logical_bytes);
    format!("{} blobs with {logical}, about {} action results", store.blobs, store.action_results)
}

fn leaves(idle_timeout_s: u64) -> String {
    match idle_timeout_s {
        0 => "never by itself".to_owned(),
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

/// A detached daemon was handed everything in its environment; one in the foreground reads
/// the configuration of where it was started.
fn run_here(args: &RunArgs) -> Outcome {
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
    let sources = Sources { environment: Environment::of_process(), current_dir: None };
    Ok(Settings::new(&config::load(&sources)?)?)
}

fn start() -> Outcome {
    let (mut connection, started) = starter::starter(&settings()?)?.ensure(starter::deadline())?;
    let status = wait_for_store(&mut connection)?;
    let how = match started {
        Started::AlreadyRunning => "was running already",
        Started::New => "started",
        Started::Replaced => "started, in the place of an older one",
    };
    output::talk(&format!("kache: daemon {} (pid {})", how, status.pid));
    for trouble in troubles(&status) {
        output::talk(&format!("kache: warning: {trouble}"));
    }
    if status.store_state == "opening" {
        output::talk("kache: the store is still being opened");
    }
    Ok(if troubles(&status).is_empty() { OK } else { TROUBLE })
}

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

fn stop() -> Outcome {
    match stop_running(&settings()?)? {
        Some(pid) => output::talk(&format!("kache: daemon stopped (pid {pid})")),
        None => output::talk("kache: no daemon is running"),
    }
    Ok(OK)
}

/// Asks it to leave and waits until it has; its process id, if there was one. A daemon that
/// has its lock and does not listen yet is asked as soon as it does.
fn stop_running(settings: &Settings) -> Result<Option<u32>, Failure> {
    let deadline = starter::deadline();
    let mut told = None;
    loop {
        match DaemonConnection::open(&settings.address, Intent::Use, soon()) {
            Ok(mut connection) if told.is_none() => {
                told = Some(connection.daemon_pid());
                ask(&mut connection, request::Kind::Stop(request::Stop::default()))?;
            }
            // Somebody has started the next one already.
            Ok(connection) if told != Some(connection.daemon_pid()) => return Ok(told),
            Ok(_) | Err(ConnectError::NotRunning | ConnectError::Refused { leaving: true, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if !settings.address.check().map_err(ConnectError::Dir)? {
            return Ok(told);
        }
        match Lock::take(&settings.address.daemon_lock()) {
            Ok(_free) => return Ok(told),
            Err(LockError::Held { .. }) if Instant::now() < deadline => std::thread::sleep(POLL_EVERY),
            Err(LockError::Held { .. }) => {
                return Err(Failure::new("the daemon was told to leave and is still there")
                    .hint("`kache daemon log` may say what it is waiting for"));
            }
            Err(error) => return Err(Failure::new(error)),
        }
    }
}

fn restart() -> Outcome {
    stop_running(&settings()?)?;
    start()
}

fn log(args: &LogArgs) -> Outcome {
    let settings = settings()?;
    let Some(path) = settings.log.file else {
        return Err(Failure::new("there is no directory for a log").hint("set KACHE_LOG_FILE_PATH"));
    };
    if args.path {
        return output::data(&format!("{}\n", path.display())).map(|()| OK);
    }
    let text = match read_end(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("there is no log at `{}`", path.display()))
                .hint(format!("kache {VERSION} has not run a daemon for this store yet")));
        }
        Err(error) => return Err(Failure::new(format!("failed to read `{}`: {error}", path.display()))),
    };
    output::data(last_lines(&text, args.lines)).map(|()| OK)
}

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
    fn the_last_lines() {
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
