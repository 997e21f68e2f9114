//! Tokens that a program prints, such as `gcloud auth print-access-token`.
//!
//! The program is run when a request needs a token, and again when the token is old or a server refused it. No
//! error shows what it printed or its arguments.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::RemoteError;
use crate::options::{Authentication, RemoteOptions, TokenCommand};

/// The time after which a token is made anew. Most live for an hour, but the program may print one of which
/// only a part is left.
const TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);

/// The time in which the program is not run again, whatever happens.
const PAUSE: Duration = Duration::from_secs(10);

/// The longest time that the program may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// The largest token that is read, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// What the program printed, and when.
type Made = (Instant, Result<HeaderValue, RemoteError>);

/// The tokens of one remote.
#[derive(Debug)]
pub(crate) struct TokenSource {
    command: TokenCommand,
    /// The lock is held while the program runs, so that it runs once for all requests that wait.
    made: Mutex<Option<Made>>,
    is_refused: AtomicBool,
}

impl TokenSource {
    /// Creates the source that the options ask for. A header that the user has set replaces it.
    pub(crate) fn new(options: &RemoteOptions, headers: &HeaderMap) -> Option<Arc<TokenSource>> {
        match &options.authentication {
            Some(Authentication::Command(command)) if !headers.contains_key(AUTHORIZATION) => {
                let (command, is_refused) = (command.clone(), AtomicBool::new(false));
                Some(Arc::new(TokenSource { command, made: Mutex::new(None), is_refused }))
            }
            _ => None,
        }
    }

    /// Says that a server refused the token.
    pub(crate) fn expire(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// Returns the value of the header `Authorization`.
    pub(crate) async fn get(&self) -> Result<HeaderValue, RemoteError> {
        let mut made = self.made.lock().await;
        if let Some((at, outcome)) = &*made {
            let is_wanted_anew = outcome.is_err() || self.is_refused.load(Ordering::Relaxed);
            let life = if is_wanted_anew { PAUSE } else { TOKEN_LIFE };
            if at.elapsed() < life {
                return outcome.clone();
            }
        }
        let outcome = run(&self.command).await;
        self.is_refused.store(false, Ordering::Relaxed);
        *made = Some((Instant::now(), outcome.clone()));
        outcome
    }
}

async fn run(command: &TokenCommand) -> Result<HeaderValue, RemoteError> {
    let Some((program, arguments)) = command.argv.split_first() else {
        return Err(RemoteError::refused("the command for a token names no program"));
    };
    let failed = |why: String| RemoteError::refused(format!("`{program}` printed no token: {why}"));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value.reveal())))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let running = async {
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(TOKEN_BYTES_MAX).read_to_end(&mut text).await?;
        }
        Ok::<_, std::io::Error>((text, child.wait().await?))
    };
    match tokio::time::timeout(COMMAND_TIME_MAX, running).await {
        Ok(Ok((text, status))) if status.success() => {
            bearer(&text).ok_or_else(|| failed("its output is not one line of text".to_owned()))
        }
        Ok(Ok((_, status))) => Err(failed(status.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => {
            Err(RemoteError::unavailable(format!("`{program}` printed no token within {COMMAND_TIME_MAX:?}")))
        }
    }
}

fn bearer(text: &[u8]) -> Option<HeaderValue> {
    let token = std::str::from_utf8(text).ok()?.trim();
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    (!token.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Secret;

    fn source(script: &str) -> Arc<TokenSource> {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let path = ("PATH".to_owned(), Secret::new("/usr/bin:/bin"));
        let command = TokenCommand { argv, environment: vec![path] };
        let authentication = Some(Authentication::Command(command));
        let options = RemoteOptions { authentication, ..RemoteOptions::default() };
        TokenSource::new(&options, &HeaderMap::new()).unwrap()
    }

    #[tokio::test]
    async fn a_program_runs_once_until_its_token_is_old_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log").display().to_string();
        let source = source(&format!("echo x >> {log}; echo t0ken; test -z \"$HOME\""));
        let runs = || std::fs::read_to_string(&log).unwrap().lines().count();
        for _ in 0..2 {
            assert_eq!(source.get().await.unwrap(), "Bearer t0ken");
        }
        assert_eq!(runs(), 1);
        assert!(!format!("{source:?}").contains("Bearer t0ken"), "{source:?}");
        source.expire();
        source.get().await.unwrap();
        assert_eq!(runs(), 1, "a token that was just made is not made again");
        let before = |time: Duration| Instant::now().checked_sub(time).unwrap();
        source.made.lock().await.as_mut().unwrap().0 = before(PAUSE);
        source.get().await.unwrap();
        assert_eq!(runs(), 2);
        source.made.lock().await.as_mut().unwrap().0 = before(PAUSE);
        source.get().await.unwrap();
        assert_eq!(runs(), 2);
        source.made.lock().await.as_mut().unwrap().0 = before(TOKEN_LIFE);
        source.get().await.unwrap();
        assert_eq!(runs(), 3);
    }

    #[tokio::test]
    async fn a_program_that_prints_no_token_is_named_without_its_output() {
        for script in ["echo hunter2; exit 3", "true", "printf 'hunter2\\nhunter2'", "printf '\\377'"] {
            let error = source(script).get().await.unwrap_err();
            assert!(!error.is_transient(), "{error}");
            let text = error.to_string();
            assert!(text.contains("`sh` printed no token") && !text.contains("hunter2"), "{text}");
        }
    }
}
