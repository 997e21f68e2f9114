//! One run of cargo in one checkout, timed.
//!
//! The environment is built from nothing, so that the user's own settings affect no row of the table.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::wrapper::WrapperSetup;

/// Variables that a build may need: locations of files, and access to a registry.
const KEPT: &[&str] = &[
    "CARGO_HOME",
    "CARGO_HTTP_CAINFO",
    "CARGO_NET_OFFLINE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "NO_PROXY",
    "PATH",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// How many bytes of a failed build's output are shown.
const SHOWN_MAX: usize = 4000;

/// The environment in which cargo runs.
#[derive(Clone, Debug)]
pub(crate) struct Cargo {
    env: Vec<(OsString, OsString)>,
}

impl Cargo {
    /// Uses this home directory, so that no wrapper finds the user's settings.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the environment enters; no compile is cached by it"
    )]
    pub(crate) fn with_home(home: &Path) -> Result<Cargo> {
        fs::create_dir_all(home).with_context(|| format!("failed to create `{}`", home.display()))?;
        let kept = KEPT.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        let mut env: Vec<_> = kept.collect();
        // cargo and rustup find their files by these variables instead of the home directory.
        for (name, dir) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            if std::env::var_os(name).is_none()
                && let Some(found) =
                    std::env::home_dir().map(|home| home.join(dir)).filter(|dir| dir.exists())
            {
                env.push((name.into(), found.into()));
            }
        }
        env.push(("HOME".into(), home.into()));
        env.push(("CARGO_TERM_COLOR".into(), "never".into()));
        Ok(Cargo { env })
    }

    /// A command with this environment.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Fetches the dependencies of a project, so that no download is timed.
    pub(crate) fn fetch(&self, checkout: &Checkout) -> Result<()> {
        let mut command = self.command(Path::new("cargo"));
        command.args(["fetch", "--locked"]).current_dir(&checkout.root);
        run(&mut command, &checkout.log).map(drop)
    }
}

/// A copy of a project.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    pub(crate) root: PathBuf,
    log: PathBuf,
}

/// The time and extent of a build that succeeded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Built {
    pub(crate) time: Duration,
    /// The number of crates that cargo reported to compile.
    pub(crate) compiled: usize,
}

impl Checkout {
    /// The checkout in this directory. The output of builds goes to a file beside it.
    pub(crate) fn at(root: PathBuf) -> Checkout {
        let log = root.with_extension("log");
        Checkout { root, log }
    }

    /// The target directory, unless a wrapper uses another one.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Builds the checkout, and measures the time.
    pub(crate) fn build(&self, cargo: &Cargo, wrapping: &WrapperSetup) -> Result<Built> {
        let mut command = wrapping.cargo(cargo, &self.root);
        command.args(["build", "--locked", "--offline"]).current_dir(&self.root);
        let begin = Instant::now();
        let said = run(&mut command, &self.log)?;
        let time = begin.elapsed();
        let compiled = said.lines().filter(|line| line.trim_start().starts_with("Compiling ")).count();
        Ok(Built { time, compiled })
    }

    /// Removes the outputs of builds.
    pub(crate) fn remove_target(&self, cargo: &Cargo, wrapping: &WrapperSetup) -> Result<()> {
        wrapping.clean(cargo, &self.root)?;
        match fs::remove_dir_all(self.target()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove `{}`", self.target().display()))
            }
            _ => Ok(()),
        }
    }
}

/// Runs a command, and returns its stderr. An error contains the end of that.
pub(crate) fn run(command: &mut Command, log: &Path) -> Result<String> {
    let failed = || format!("failed to run `{}`", command.get_program().to_string_lossy());
    let context = failed();
    let file = File::create(log).with_context(|| format!("failed to create `{}`", log.display()))?;
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).status().context(context)?;
    let said = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    if !status.success() {
        let begin = said.ceil_char_boundary(said.len().saturating_sub(SHOWN_MAX));
        bail!("`{command:?}` ended with {status}:\n{}", &said[begin..]);
    }
    Ok(said)
}
