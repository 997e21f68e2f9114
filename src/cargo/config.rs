//! Cargo's home, and the configuration files that a cargo in some directory reads.
//!
//! The files are read as texts, because every setting in them may change what is compiled. Only the
//! target directory and the aliases are parsed. A file that includes other files is not understood.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::invocation::Environment;

/// A longer file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration files of one cargo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CargoConfig {
    /// The texts of the files; the file with the highest precedence comes first.
    pub texts: Vec<String>,
    /// The absolute path of `build.target-dir`, if it is set.
    pub target_dir: Option<PathBuf>,
    /// The names of the commands in `[alias]`.
    pub aliases: Vec<String>,
}

impl CargoConfig {
    /// Reads the configuration of a cargo with this directory and home. `None` if a file cannot be read
    /// or is not understood. Without files the result is empty.
    pub fn read(directory: &Path, home: &Path) -> Option<CargoConfig> {
        let mut found = CargoConfig::default();
        for dir in dirs(Some(directory), Some(home)) {
            let Some(text) = text_in(&dir)? else { continue };
            let document: toml::Table = text.parse().ok()?;
            let build = document.get("build");
            let names = |key: &str| build.and_then(|build| build.get(key));
            // Included files may set anything, and with a build directory outputs lie in two places.
            if document.contains_key("include") || names("build-dir").is_some() {
                return None;
            }
            if let Some(target_dir) = names("target-dir") {
                // The path is relative to the parent of `.cargo`.
                let path = dir.parent()?.join(target_dir.as_str()?);
                found.target_dir.get_or_insert(path);
            }
            let aliases = document.get("alias").and_then(toml::Value::as_table);
            found.aliases.extend(aliases.into_iter().flat_map(|table| table.keys().cloned()));
            found.texts.push(text);
        }
        Some(found)
    }
}

/// Cargo's home: `$CARGO_HOME`, or else `$HOME/.cargo`. A relative path is relative to `directory`.
pub fn home(environment: &Environment, directory: &Path) -> Option<PathBuf> {
    let default = || environment.path("HOME").map(|home| home.join(".cargo"));
    environment.path("CARGO_HOME").map(Path::to_owned).or_else(default).map(|home| directory.join(home))
}

/// The directories in which a cargo with this directory and home looks for its configuration; the one
/// with the highest precedence comes first.
pub fn dirs(directory: Option<&Path>, home: Option<&Path>) -> Vec<PathBuf> {
    let above = directory.into_iter().flat_map(Path::ancestors).map(|dir| dir.join(".cargo"));
    above.filter(|dir| Some(&**dir) != home).chain(home.map(Path::to_owned)).collect()
}

/// The configuration file in such a directory. If both names exist, cargo takes the old one.
pub fn file_in(dir: &Path) -> PathBuf {
    let old = dir.join("config");
    if old.is_file() { old } else { dir.join("config.toml") }
}

/// The text of the configuration file: `Some(None)` if there is no file, `None` if it cannot be read.
fn text_in(dir: &Path) -> Option<Option<String>> {
    let path = file_in(dir);
    match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() <= FILE_BYTES_MAX => {
            fs::read_to_string(&path).ok().map(Some)
        }
        Ok(found) if found.is_file() => None,
        Ok(_) => Some(None),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Some(None)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path, text: &str) {
        fs::create_dir_all(dir).unwrap();
        let draft = dir.join("draft");
        fs::File::create(&draft)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .unwrap();
        fs::rename(draft, dir.join("config.toml")).unwrap();
    }

    #[test]
    fn all_files_are_read_and_the_nearest_target_directory_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (home, ws) = (dir.path().join("home/.cargo"), dir.path().join("a/ws"));
        fs::create_dir_all(&ws).unwrap();
        assert_eq!(CargoConfig::read(&ws, &home).unwrap(), CargoConfig::default());
        written(&home, "[build]\ntarget-dir = \"/everybodys\"\n");
        written(&dir.path().join("a/.cargo"), "[build]\ntarget-dir = \"t\"\n");
        written(&ws.join(".cargo"), "[env]\nX = \"1\"\n");
        let found = CargoConfig::read(&ws, &home).unwrap();
        assert_eq!(found.target_dir.unwrap(), dir.path().join("a/t"));
        assert_eq!(found.texts.len(), 3);
        assert!(found.texts[0].contains('X'), "the file with the highest precedence comes first");
        let of_home = CargoConfig::read(&home, &home).unwrap();
        assert_eq!(of_home.texts.len(), 1, "the home is read once");
    }

    #[test]
    fn a_file_that_is_not_understood_makes_the_configuration_unknown() {
        for text in
            ["include = [\"x.toml\"]", "[build]\nbuild-dir = \"b\"", "no toml", "[build]\ntarget-dir = 1"]
        {
            let dir = tempfile::tempdir().unwrap();
            written(&dir.path().join(".cargo"), text);
            assert_eq!(CargoConfig::read(dir.path(), Path::new("/nowhere")), None, "{text}");
        }
    }
}
