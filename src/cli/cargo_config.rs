//! The one setting of cargo's configuration that matters here: which wrapper cargo calls.
//!
//! Values are looked up in cargo's own order: first a variable, then `.cargo/config.toml` from
//! the current directory upwards, then the file in cargo's home. A change is a function from a
//! file's text to the new text; it keeps every other key, comment and space.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, TableLike, TomlError, value};

use crate::cargo::config;
use crate::compile::find_program;
use crate::config::{Environment, Variable, env_vars};

/// The variable or file that names a wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WrapperOrigin {
    Variable(&'static str),
    File(PathBuf),
}

/// A wrapper that cargo is told to call, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfiguredWrapper {
    pub(super) program: PathBuf,
    pub(super) origin: WrapperOrigin,
}

impl std::fmt::Display for WrapperOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WrapperOrigin::Variable(name) => f.write_str(name),
            WrapperOrigin::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The variables that name a wrapper, in the order in which cargo looks at them.
const VARIABLES: [Variable; 2] = [env_vars::RUSTC_WRAPPER, env_vars::CARGO_BUILD_RUSTC_WRAPPER];

/// Cargo's home; `None` if neither `CARGO_HOME` nor the home directory is known.
pub(super) fn cargo_home(environment: &Environment) -> Option<PathBuf> {
    let named = environment.get(env_vars::CARGO_HOME).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(environment.xdg_dirs().home?.join(".cargo")))
}

/// All wrappers that variables and files name; cargo calls the first one. Files that cannot be
/// read are left out: cargo itself complains about them.
pub(super) fn wrappers(environment: &Environment, current_dir: Option<&Path>) -> Vec<ConfiguredWrapper> {
    let by_variable = VARIABLES.iter().filter_map(|variable| {
        let program = PathBuf::from(environment.get(*variable)?);
        Some(ConfiguredWrapper { program, origin: WrapperOrigin::Variable(variable.name) })
    });
    let home = cargo_home(environment);
    let dirs = config::dirs(current_dir, home.as_deref());
    let by_file = dirs.iter().filter_map(|dir| {
        let path = config::file_in(dir);
        let program = wrapper_of(&fs::read_to_string(&path).ok()?).ok()??;
        Some(ConfiguredWrapper { program: anchored(&program, dir), origin: WrapperOrigin::File(path) })
    });
    by_variable.chain(by_file).filter(|wrapper| !wrapper.program.as_os_str().is_empty()).collect()
}

/// Resolves a path in a configuration file, which is relative to the directory that holds
/// `.cargo`. A bare name stays as it is: cargo looks it up in `PATH`.
fn anchored(program: &str, dir: &Path) -> PathBuf {
    let program = Path::new(program);
    match dir.parent() {
        Some(base) if program.components().nth(1).is_some() => base.join(program),
        _ => program.to_owned(),
    }
}

/// Reads `build.rustc-wrapper` from a configuration file's text.
pub(super) fn wrapper_of(text: &str) -> Result<Option<String>, TomlError> {
    let document: DocumentMut = text.parse()?;
    let wrapper = document.get("build").and_then(Item::as_table_like).and_then(|build| build.get(KEY));
    Ok(wrapper.and_then(Item::as_str).map(str::to_owned))
}

const KEY: &str = "rustc-wrapper";

/// Returns the text with `build.rustc-wrapper` set to `program`; `None` if `build` is not a
/// table.
pub(super) fn with_wrapper(text: &str, program: &str) -> Result<Option<String>, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let is_new = !document.contains_key("build");
    if is_new {
        let mut table = toml_edit::Table::new();
        // A blank line separates the new table from the one in front of it. `without_wrapper`
        // removes the table with this line, so the file is again what it was.
        if !text.trim().is_empty() {
            table.decor_mut().set_prefix("\n");
        }
        document.insert("build", Item::Table(table));
    }
    let Some(build) = document.get_mut("build").and_then(Item::as_table_like_mut) else { return Ok(None) };
    set(build, program);
    Ok(Some(document.to_string()))
}

/// Replaces the present value and keeps its comment, or adds the key at the end of the table.
fn set(build: &mut dyn TableLike, program: &str) {
    match build.get_mut(KEY).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = program.into();
            *old.decor_mut() = decor;
        }
        None => {
            build.insert(KEY, value(program));
        }
    }
}

/// Returns the text without `build.rustc-wrapper`. A `[build]` table that is empty then goes
/// too, unless the user wrote a comment above it.
pub(super) fn without_wrapper(text: &str) -> Result<String, TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let Some(build) = document.get_mut("build").and_then(Item::as_table_like_mut) else {
        return Ok(text.to_owned());
    };
    if build.remove(KEY).is_none() {
        return Ok(text.to_owned());
    }
    // The prefix of a table is the text in front of it. If that is more than blank lines, it is a
    // comment of the user, and the table stays for its sake.
    let is_bare = build.is_empty()
        && document
            .get("build")
            .and_then(Item::as_table)
            .and_then(|table| table.decor().prefix()?.as_str())
            .is_none_or(|prefix| prefix.trim().is_empty());
    if is_bare {
        document.remove("build");
    }
    Ok(document.to_string())
}

/// Whether `wrapper` is the program at `client`. A wrapper without a directory is looked up in
/// `search`, which has the form of `PATH`.
pub(super) fn is_client(wrapper: &Path, client: &Path, search: Option<&OsStr>) -> bool {
    let same = |path: &Path| matches!((path.canonicalize(), client.canonicalize()), (Ok(left), Ok(right)) if left == right);
    if wrapper.components().nth(1).is_some() {
        same(wrapper)
    } else {
        find_program(wrapper, search).is_some_and(|path| same(&path))
    }
}

/// Whether the wrapper's file name is `kache`, in whatever directory.
pub(super) fn is_named_kache(wrapper: &Path) -> bool {
    wrapper.file_name() == Some(OsStr::new("kache"))
}

/// Reads a file; a file that does not exist reads as empty.
pub(super) fn read(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMENTED: &str = "# mine\n[build] # b\njobs = 4 # few\n\n# net\n[net]\nretry = 2\n";

    #[test]
    fn setting_keeps_everything_else() {
        for (before, after) in [
            ("", "[build]\nrustc-wrapper = \"kache\"\n"),
            ("[net]\nretry = 2\n", "[net]\nretry = 2\n\n[build]\nrustc-wrapper = \"kache\"\n"),
            (
                COMMENTED,
                "# mine\n[build] # b\njobs = 4 # few\nrustc-wrapper = \"kache\"\n\n# net\n[net]\nretry = 2\n",
            ),
            ("build.jobs = 4\n", "build.jobs = 4\nbuild.rustc-wrapper = \"kache\"\n"),
            ("build = { jobs = 4 }\n", "build = { jobs = 4 , rustc-wrapper = \"kache\" }\n"),
            ("[build]\nrustc-wrapper = 'x' # why\n", "[build]\nrustc-wrapper = \"kache\" # why\n"),
        ] {
            assert_eq!(with_wrapper(before, "kache").unwrap().unwrap(), after, "{before}");
            assert_eq!(wrapper_of(after).unwrap().as_deref(), Some("kache"));
        }
        assert_eq!(with_wrapper("build = 3", "kache").unwrap(), None);
        assert!(with_wrapper("[build", "kache").is_err());
    }

    #[test]
    fn removing_is_the_reverse_of_setting() {
        for text in ["", "[net]\nretry = 2\n", COMMENTED, "build.jobs = 4\n", "[build]\njobs = 1\n"] {
            let set = with_wrapper(text, "kache").unwrap().unwrap();
            assert_eq!(without_wrapper(&set).unwrap(), text);
            assert_eq!(without_wrapper(text).unwrap(), text, "what is not there is not removed");
        }
        let kept = "# why I build so\n[build]\nrustc-wrapper = \"kache\"\n";
        assert_eq!(without_wrapper(kept).unwrap(), "# why I build so\n[build]\n");
    }

    #[test]
    fn a_variable_comes_before_the_nearest_file_and_that_before_cargos_home() {
        let dir = tempfile::tempdir().unwrap();
        let path = |rest: &str| dir.path().join(rest);
        for (file, wrapper) in [("home/.cargo/config.toml", "kache"), ("work/.cargo/config", "bin/own")] {
            fs::create_dir_all(path(file).parent().unwrap()).unwrap();
            let text = with_wrapper("", wrapper).unwrap().unwrap();
            fs::write(path(file), text).unwrap();
        }
        fs::create_dir_all(path("work/member")).unwrap();
        let home = path("home").into_os_string();
        let environment = Environment::new([("HOME", home.clone()), ("RUSTC_WRAPPER", "sccache".into())]);
        let found = wrappers(&environment, Some(&path("work/member")));
        let programs: Vec<&Path> = found.iter().map(|wrapper| &*wrapper.program).collect();
        assert_eq!(programs, [Path::new("sccache"), &path("work/bin/own"), Path::new("kache")]);
        assert_eq!(found[0].origin.to_string(), "RUSTC_WRAPPER");
        let environment = Environment::new([("HOME", home)]);
        assert_eq!(
            wrappers(&environment, Some(&path("home")))[0].origin,
            WrapperOrigin::File(path("home/.cargo/config.toml"))
        );
    }

    #[test]
    fn a_bare_name_is_looked_up_in_path_as_a_shell_does() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("a/kache", 0o644), ("b/kache", 0o755)] {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let search = std::env::join_paths([dir.path().join("a"), dir.path().join("b")]).unwrap();
        let client = dir.path().join("b/kache");
        assert_eq!(find_program(Path::new("kache"), Some(&search)), Some(client.clone()));
        assert!(is_client(Path::new("kache"), &client, Some(&search)));
        assert!(is_client(&client, &client, None) && !is_client(Path::new("kache"), &client, None));
        assert!(!is_client(&dir.path().join("a/kache"), &client, Some(&search)));
    }
}
