//! `kache init`: makes every cargo of the user call kache, by one line in cargo's configuration.
//!
//! The command shows the change and asks before it writes. It keeps everything else in the
//! file, comments included, and never replaces another wrapper. `--remove` is the reverse.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kache_client::engine_path;

use super::args::InitArgs;
use super::cargo_config::{self as cargo, WrapperOrigin};
use super::exit_codes::{FAILURE, OK, USAGE};
use super::failure::{CommandResult, Failure};
use super::output;
use crate::cargo::config::file_in;
use crate::config::{Environment, env_vars};

pub(super) fn run(args: &InitArgs) -> CommandResult {
    let environment = Environment::of_process();
    let setup = CargoSetup::find(&environment)?;
    let wanted = if args.remove { setup.text_without_kache()? } else { setup.text_with_kache()? };
    let current_dir = std::env::current_dir().ok();
    for warning in setup.warnings(&environment, current_dir.as_deref(), args.remove) {
        output::message(&format!("kache: warning: {warning}"));
    }
    if wanted == setup.text {
        let state = if args.remove { "does not name" } else { "already names" };
        output::message(&format!(
            "kache: nothing to do: `{}` {state} kache as wrapper",
            setup.file.display()
        ));
        return Ok(OK);
    }
    output::data(&change(&setup.file, &setup.text, &wanted))?;
    if args.check {
        return Ok(FAILURE);
    }
    if !args.yes && !is_confirmed()? {
        output::message("kache: nothing was changed");
        return Ok(FAILURE);
    }
    write(&setup.file, &wanted)?;
    output::message(if args.remove { REMOVED } else { SET });
    Ok(OK)
}

const SET: &str =
    "kache: cargo now calls kache; `kache doctor --probe` tests it, `kache init --remove` undoes it";
const REMOVED: &str = "kache: cargo no longer calls kache; `kache daemon stop` stops the daemon, and \
                       `kache config get cache.dir` prints the directory of the store";

/// Cargo's configuration file as it is, and the program that it is to name.
struct CargoSetup {
    /// The file that is changed, with symbolic links resolved.
    file: PathBuf,
    text: String,
    /// The client that is installed beside this engine.
    client: PathBuf,
    /// The value for `build.rustc-wrapper`: `kache` where `PATH` leads to this client, because
    /// a name stays right after an upgrade; otherwise the client's path.
    program: String,
    /// The value of `PATH`.
    search: Option<std::ffi::OsString>,
}

impl CargoSetup {
    fn find(environment: &Environment) -> Result<CargoSetup, Failure> {
        let home = cargo::cargo_home(environment)
            .ok_or_else(|| Failure::new("cargo's home is not known").hint("set HOME or CARGO_HOME"))?;
        let file = file_in(&home);
        // People keep configuration files in a repository and link to them. The link stays,
        // and the file that it leads to is changed.
        let file = file.canonicalize().unwrap_or(file);
        let text = cargo::read(&file)
            .map_err(|error| Failure::new(format!("failed to read `{}`: {error}", file.display())))?;
        let engine = engine_path().map_err(Failure::new)?;
        let client = engine.with_file_name("kache");
        if !client.is_file() {
            return Err(Failure::new(format!("there is no `{}`", client.display()))
                .hint("`kache` and `kached` must lie in the same directory; install kache again"));
        }
        let search = environment.get(env_vars::PATH).map(ToOwned::to_owned);
        let program = if cargo::is_client(Path::new("kache"), &client, search.as_deref()) {
            "kache".to_owned()
        } else {
            let path = client.to_str();
            path.ok_or_else(|| Failure::new(format!("the path `{}` is not UTF-8", client.display())))?
                .to_owned()
        };
        Ok(CargoSetup { file, text, client, program, search })
    }

    fn unreadable(&self, error: &toml_edit::TomlError) -> Failure {
        Failure::new(format!("failed to read `{}`: {error}", self.file.display()))
            .hint("cargo cannot read the file either; correct it first")
    }

    fn current(&self) -> Result<Option<String>, Failure> {
        cargo::wrapper_of(&self.text).map_err(|error| self.unreadable(&error))
    }

    /// Returns the file's text with kache as the wrapper. Another wrapper in it is an error.
    fn text_with_kache(&self) -> Result<String, Failure> {
        if let Some(current) = self.current()?.filter(|current| !current.is_empty()) {
            let wrapper = Path::new(&current);
            if cargo::is_client(wrapper, &self.client, self.search.as_deref()) {
                return Ok(self.text.clone());
            }
            // A program named `kache` is an earlier installation and is replaced by this one.
            if !cargo::is_named_kache(wrapper) {
                return Err(another(&current, &self.file));
            }
        }
        let changed =
            cargo::with_wrapper(&self.text, &self.program).map_err(|error| self.unreadable(&error))?;
        changed.ok_or_else(|| {
            Failure::new(format!("`build` in `{}` is not a table", self.file.display()))
                .hint("cargo cannot read the file either; correct it first")
        })
    }

    /// Returns the file's text without kache as the wrapper. Another wrapper stays.
    fn text_without_kache(&self) -> Result<String, Failure> {
        match self.current()? {
            Some(current) if cargo::is_named_kache(Path::new(&current)) => {
                cargo::without_wrapper(&self.text).map_err(|error| self.unreadable(&error))
            }
            _ => Ok(self.text.clone()),
        }
    }

    /// Warns of variables and nearer files that override the changed file in the current
    /// directory: after a setup those that name another program, after a removal those that
    /// still name kache.
    fn warnings(
        &self,
        environment: &Environment,
        current_dir: Option<&Path>,
        is_removed: bool,
    ) -> Vec<String> {
        let is_elsewhere = |origin: &WrapperOrigin| match origin {
            WrapperOrigin::Variable(_) => true,
            WrapperOrigin::File(path) => path.canonicalize().ok().as_ref() != Some(&self.file),
        };
        let wrappers = cargo::wrappers(environment, current_dir);
        let stronger = wrappers.into_iter().take_while(|wrapper| is_elsewhere(&wrapper.origin));
        let is_kache = |program: &Path| cargo::is_client(program, &self.client, self.search.as_deref());
        let other = stronger.filter(|wrapper| is_kache(&wrapper.program) == is_removed);
        other
            .map(|wrapper| {
                let (origin, program) = (&wrapper.origin, wrapper.program.display());
                format!("in this directory {origin} overrides that: cargo calls `{program}`")
            })
            .collect()
    }
}

fn another(current: &str, file: &Path) -> Failure {
    Failure::new(format!("`{}` already names another wrapper, `{current}`", file.display())).hint(format!(
        "remove that line and run this again; with KACHE_FALLBACK kache calls `{current}` for compiles that it does not cache"
    ))
}

/// Renders the change as a diff: removed lines, added lines and a few lines around them.
fn change(file: &Path, before: &str, after: &str) -> String {
    // One setting is changed, so all changed lines are next to each other: what the two texts have
    // in common at their beginning and at their end is unchanged, and the rest is the change. The
    // common end is searched only behind the common beginning, or a line could count twice.
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

/// The number of unchanged lines that are shown on each side of a change.
const CONTEXT_LINES: usize = 2;

/// Asks the user and returns whether the answer was yes. Without a terminal this is an error.
fn is_confirmed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let failure = Failure::new("standard input is not a terminal, so kache cannot ask");
        return Err(Failure { status: USAGE, ..failure }.hint("`kache init -y` does not ask"));
    }
    output::message("Make this change? [y/N]");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Replaces the file in one step and keeps its mode. If the text is empty, the file is removed.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |doing: &str| {
        let what = format!("failed to {doing} `{}`", file.display());
        move |error: io::Error| Failure::new(format!("{what}: {error}"))
    };
    if text.trim().is_empty() {
        return fs::remove_file(file).map_err(failed("remove"));
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).map_err(failed("create the directory of"))?;
    }
    // A crash while the file is written must not leave half a configuration, which would break
    // every cargo of the user. So the text goes into a new file, is synced, and replaces the old
    // file by a rename.
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
        // Nothing more can be done if this fails too; the first error is reported.
        let _ = fs::remove_file(&fresh);
    }
    written.map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_the_lines_around_it() {
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
