//! Cargo's home, its configuration files, and what they tell a cargo in some directory.
//!
//! All their text counts: profiles, flags, variables. Only where outputs go is understood, and
//! what leads to other files is not followed: then nothing is known.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::invocation::Environment;

/// A longer file is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What all files together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CargoConfig {
    /// Their texts, the strongest first.
    pub texts: Vec<String>,
    /// `build.target-dir`, absolute.
    pub target_dir: Option<PathBuf>,
    /// The commands in `[alias]`.
    pub aliases: Vec<String>,
}

impl CargoConfig {
    /// What a cargo with this directory and home reads; `None` where it cannot be told.
    pub fn read(directory: &Path, home: &Path) -> Option<CargoConfig> {
        let mut found = CargoConfig::default();
        for dir in dirs(Some(directory), Some(home)) {
            let Some(text) = text_in(&dir)? else { continue };
            let document: toml::Table = text.parse().ok()?;
            let build = document.get("build");
            let names = |key: &str| build.and_then(|build| build.get(key));
            if document.contains_key("include") || names("build-dir").is_some() {
                return None;
            }
            if let Some(target_dir) = names("target-dir") {
                // It counts from where `.cargo` lies.
                let place = dir.parent()?.join(target_dir.as_str()?);
                found.target_dir.get_or_insert(place);
            }
            let aliases = document.get("alias").and_then(toml::Value::as_table);
            found.aliases.extend(aliases.into_iter().flat_map(|table| table.keys().cloned()));
            found.texts.push(text);
        }
        Some(found)
    }
}

/// `$CARGO_HOME`, else `$HOME/.cargo`, for whoever is in this directory.
pub fn home(environment: &Environment, directory: &Path) -> Option<PathBuf> {
    let default = || environment.path("HOME").map(|home| home.join(".cargo"));
    environment.path("CARGO_HOME").map(Path::to_owned).or_else(default).map(|home| directory.join(home))
}

/// Where configuration files may lie for a cargo in this directory with this home, the strongest
/// first.
pub fn dirs(directory: Option<&Path>, home: Option<&Path>) -> Vec<PathBuf> {
    let above = directory.into_iter().flat_map(Path::ancestors).map(|dir| dir.join(".cargo"));
    above.filter(|dir| Some(&**dir) != home).chain(home.map(Path::to_owned)).collect()
}

/// The configuration file of such a directory: cargo still prefers its old name.
pub fn file_in(dir: &Path) -> PathBuf {
    let old = dir.join("config");
    if old.is_file() { old } else { dir.join("config.toml") }
}

/// The file's text, if there is one.
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
    fn every_text_counts_and_the_nearest_target_directory_stands() {
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
        assert!(found.texts[0].contains('X'), "the strongest first");
        let of_home = CargoConfig::read(&home, &home).unwrap();
        assert_eq!(of_home.texts.len(), 1, "the home is read once");
    }

    #[test]
    fn what_leads_elsewhere_is_not_told() {
        for text in
            ["include = [\"x.toml\"]", "[build]\nbuild-dir = \"b\"", "no toml", "[build]\ntarget-dir = 1"]
        {
            let dir = tempfile::tempdir().unwrap();
            written(&dir.path().join(".cargo"), text);
            assert_eq!(CargoConfig::read(dir.path(), Path::new("/nowhere")), None, "{text}");
        }
    }
}
