//! `kache init`: has cargo call kache, everywhere, by one line in cargo's own configuration.
//!
//! It shows what it would change before it changes anything, and asks. What is there already
//! stays as it is, comments and all; another wrapper is never replaced. `--remove` is the
//! reverse.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kache_client::engine_path;

use super::args::InitArgs;
use super::cargo_config::{self as cargo, Place};
use super::exit_codes::{FAILURE, OK, USAGE};
use super::failure::{Failure, Outcome};
use super::output;
use crate::cargo::config::file_in;
use crate::config::{Environment, env_vars};

pub(super) fn run(args: &InitArgs) -> Outcome {
    let environment = Environment::of_process();
    let setup = Setup::find(&environment)?;
    let wanted = if args.remove { setup.without()? } else { setup.with()? };
    let current_dir = std::env::current_dir().ok();
    for warning in setup.warnings(&environment, current_dir.as_deref(), args.remove) {
        output::talk(&format!("kache: warning: {warning}"));
    }
    if wanted == setup.text {
        let state = if args.remove { "does not call" } else { "calls" };
        output::talk(&format!("kache: nothing to do: cargo {state} kache by `{}`", setup.file.display()));
        return Ok(OK);
    }
    output::data(&change(&setup.file, &setup.text, &wanted))?;
    if args.check {
        return Ok(FAILURE);
    }
    if !args.yes && !agreed()? {
        output::talk("kache: nothing was changed");
        return Ok(FAILURE);
    }
    write(&setup.file, &wanted)?;
    output::talk(if args.remove { REMOVED } else { SET });
    Ok(OK)
}

const SET: &str =
    "kache: cargo now calls kache; `kache doctor --probe` tries it, `kache init --remove` undoes it";
const REMOVED: &str = "kache: cargo no longer calls kache; `kache daemon stop` ends the daemon, and the directory \
                       that `kache config get cache.dir` names holds the store";

/// What there is, and what is wanted.
struct Setup {
    /// The file that is changed, links followed.
    file: PathBuf,
    text: String,
    client: PathBuf,
    /// What cargo is to call: our name where that finds us, since it outlives an upgrade, or
    /// else our path.
    program: String,
    search: Option<std::ffi::OsString>,
}

impl Setup {
    fn find(environment: &Environment) -> Result<Setup, Failure> {
        let home = cargo::cargo_home(environment)
            .ok_or_else(|| Failure::new("cargo's home is not known").hint("set HOME or CARGO_HOME"))?;
        let file = file_in(&home);
        // Configuration files are often links into a repository: the link stays.
        let file = file.canonicalize().unwrap_or(file);
        let text = cargo::read(&file)
            .map_err(|error| Failure::new(format!("failed to read `{}`: {error}", file.display())))?;
        let engine = engine_path().map_err(Failure::new)?;
        let client = engine.with_file_name("kache");
        if !client.is_file() {
            return Err(Failure::new(format!("there is no `{}`", client.display()))
                .hint("`kache` and `kached` are installed side by side; install kache again"));
        }
        let search = environment.get(env_vars::PATH).map(ToOwned::to_owned);
        let program = if cargo::is_client(Path::new("kache"), &client, search.as_deref()) {
            "kache".to_owned()
        } else {
            let path = client.to_str();
            path.ok_or_else(|| Failure::new(format!("the path `{}` is not UTF-8", client.display())))?
                .to_owned()
        };
        Ok(Setup { file, text, client, program, search })
    }

    fn misread(&self, error: &toml_edit::TomlError) -> Failure {
        Failure::new(format!("failed to read `{}`: {error}", self.file.display()))
            .hint("cargo cannot read it either; correct it first")
    }

    fn current(&self) -> Result<Option<String>, Failure> {
        cargo::wrapper_of(&self.text).map_err(|error| self.misread(&error))
    }

    /// The file's text with us in it.
    fn with(&self) -> Result<String, Failure> {
        if let Some(current) = self.current()?.filter(|current| !current.is_empty()) {
            let wrapper = Path::new(&current);
            if cargo::is_client(wrapper, &self.client, self.search.as_deref()) {
                return Ok(self.text.clone());
            }
            if !cargo::is_named_kache(wrapper) {
                return Err(another(&current, &self.file));
            }
        }
        let changed = cargo::with_wrapper(&self.text, &self.program).map_err(|error| self.misread(&error))?;
        changed.ok_or_else(|| {
            Failure::new(format!("`build` in `{}` is no table", self.file.display()))
                .hint("cargo cannot read it either; correct it first")
        })
    }

    /// The file's text without us. What is not ours stays.
    fn without(&self) -> Result<String, Failure> {
        match self.current()? {
            Some(current) if cargo::is_named_kache(Path::new(&current)) => {
                cargo::without_wrapper(&self.text).map_err(|error| self.misread(&error))
            }
            _ => Ok(self.text.clone()),
        }
    }

    /// What has the file's line mean something else here.
    fn warnings(
        &self,
        environment: &Environment,
        current_dir: Option<&Path>,
        is_removed: bool,
    ) -> Vec<String> {
        let elsewhere = |place: &Place| match place {
            Place::Variable(_) => true,
            Place::File(path) => path.canonicalize().ok().as_ref() != Some(&self.file),
        };
        let wrappers = cargo::wrappers(environment, current_dir);
        let stronger = wrappers.into_iter().take_while(|wrapper| elsewhere(&wrapper.said_in));
        let is_us = |program: &Path| cargo::is_client(program, &self.client, self.search.as_deref());
        let other = stronger.filter(|wrapper| is_us(&wrapper.program) == is_removed);
        other
            .map(|wrapper| {
                let (place, program) = (&wrapper.said_in, wrapper.program.display());
                format!("here {place} has cargo call `{program}` all the same")
            })
            .collect()
    }
}

fn another(current: &str, file: &Path) -> Failure {
    Failure::new(format!("`{}` has cargo call another wrapper, `{current}`", file.display())).hint(format!(
        "remove that line and run this again; to have `{current}` called for what kache passes by, set KACHE_FALLBACK"
    ))
}

/// What would change: lines that go, lines that come, and the ones around them.
fn change(file: &Path, before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let tails = old[same_head..].iter().rev().zip(new[same_head..].iter().rev());
    let same_tail = tails.take_while(|(old, new)| old == new).count();
    let mut shown = format!("{}\n", file.display());
    let mut lines = |mark: &str, lines: &[&str]| {
        for line in lines {
            shown.push_str(format!("{mark} {line}").trim_end());
            shown.push('\n');
        }
    };
    lines(" ", &old[same_head.saturating_sub(CONTEXT_LINES)..same_head]);
    lines("-", &old[same_head..old.len() - same_tail]);
    lines("+", &new[same_head..new.len() - same_tail]);
    lines(" ", &old[old.len() - same_tail..(old.len() - same_tail + CONTEXT_LINES).min(old.len())]);
    shown
}

/// How many lines around a change are shown.
const CONTEXT_LINES: usize = 2;

/// Whether the user says yes. Nobody who cannot be asked has agreed.
fn agreed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let failure = Failure::new("nobody is there to be asked");
        return Err(Failure { status: USAGE, ..failure }.hint("`kache init -y` does it without asking"));
    }
    output::talk("Change it so? [y/N]");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Writes beside the file and renames, with the mode that it had. A file that would be empty
/// goes.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |doing: &str| {
        let what = format!("failed to {doing} `{}`", file.display());
        move |error: io::Error| Failure::new(format!("{what}: {error}"))
    };
    if text.trim().is_empty() {
        return fs::remove_file(file).map_err(failed("remove"));
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(failed("make the directory of"))?;
    }
    let fresh = file.with_extension(format!("toml.{}", std::process::id()));
    let written = (|| {
        let mut new = fs::File::create_new(&fresh)?;
        io::Write::write_all(&mut new, text.as_bytes())?;
        if let Ok(old) = fs::metadata(file) {
            new.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o7777))?;
        }
        new.sync_all()?;
        fs::rename(&fresh, file)
    })();
    if written.is_err() {
        // What is half written must not be taken for anything; the first error is the one to tell.
        let _ = fs::remove_file(&fresh);
    }
    written.map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let before = "a\nb\nc\nd\ne\nf\n";
        let shown = change(Path::new("/f"), before, "a\nb\nc\nX\ne\nf\n");
        assert_eq!(shown, "/f\n  b\n  c\n- d\n+ X\n  e\n  f\n");
        assert_eq!(change(Path::new("/f"), "", "[build]\n\nx\n"), "/f\n+ [build]\n+\n+ x\n");
    }

    #[test]
    fn writing_keeps_the_mode_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/config.toml");
        write(&file, "a = 1\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        write(&file, "a = 2\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "a = 2\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        write(&file, "\n").unwrap();
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 0);
    }
}
