//! Finds the root of the workspace that a cargo builds, from the manifests, as cargo does.
//!
//! If the root is not certain, the answer is `None`, and the session is not seeded. kache must not make
//! a target directory in a workspace that cargo does not build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file name of a manifest.
const MANIFEST: &str = "Cargo.toml";

/// A longer manifest is not read.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Returns the root of the workspace that a cargo in this directory builds. `manifest` is the value of
/// `--manifest-path`. `None` if the root is not certain.
pub fn root(directory: &Path, manifest: Option<&Path>) -> Option<PathBuf> {
    let package = match manifest {
        Some(manifest) if manifest.file_name()? != MANIFEST => return None,
        Some(manifest) => directory.join(manifest).parent()?.canonicalize().ok()?,
        None => directory.ancestors().find(|dir| dir.join(MANIFEST).exists())?.to_owned(),
    };
    let own = Manifest::read(&package)??;
    if own.is_root {
        return Some(package);
    }
    if let Some(named) = own.workspace {
        let root = package.join(named).canonicalize().ok()?;
        return Manifest::read(&root)??.is_root.then_some(root);
    }
    // Like cargo, look for a workspace above the package. Cargo also checks that the workspace has the
    // package as a member, but it fails if not, so no build begins.
    for above in package.ancestors().skip(1) {
        match Manifest::read(above)? {
            // The workspace above may exclude this package; only cargo knows its rules for that.
            Some(Manifest { is_root: true, excludes: true, .. } | Manifest { workspace: Some(_), .. }) => {
                return None;
            }
            Some(Manifest { is_root: true, .. }) => return Some(above.to_owned()),
            Some(_) | None => {}
        }
    }
    Some(package)
}

/// Returns the names of the packages of a workspace: those of its lock file that have no source. `None` if the
/// lock file cannot be read.
pub fn members(root: &Path) -> Option<Vec<String>> {
    let lock: toml::Table = fs::read_to_string(root.join("Cargo.lock")).ok()?.parse().ok()?;
    let packages = lock.get("package").and_then(toml::Value::as_array)?;
    let members = packages.iter().filter(|package| package.get("source").is_none());
    let name = |package: &toml::Value| package.get("name").and_then(toml::Value::as_str).map(str::to_owned);
    Some(members.filter_map(name).collect())
}

/// The part of a manifest that is about workspaces.
#[derive(Debug, Default)]
struct Manifest {
    /// Whether there is a `[workspace]`.
    is_root: bool,
    /// Whether `[workspace]` has an `exclude`.
    excludes: bool,
    /// The value of `package.workspace`.
    workspace: Option<PathBuf>,
}

impl Manifest {
    /// Reads the manifest in a directory: `Some(None)` if there is none, `None` if it cannot be read.
    fn read(dir: &Path) -> Option<Option<Manifest>> {
        let path = dir.join(MANIFEST);
        let text = match fs::metadata(&path) {
            Ok(found) if found.len() <= MANIFEST_BYTES_MAX => fs::read_to_string(&path).ok()?,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Some(None);
            }
            Ok(_) | Err(_) => return None,
        };
        let document: toml::Table = text.parse().ok()?;
        let workspace = document.get("workspace");
        let named = document.get("package").and_then(|package| package.get("workspace"));
        Some(Some(Manifest {
            is_root: workspace.is_some(),
            excludes: workspace.is_some_and(|workspace| workspace.get("exclude").is_some()),
            workspace: named.and_then(toml::Value::as_str).map(PathBuf::from),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: &str = "[package]\nname = \"x\"\n";
    const ROOT: &str = "[workspace]\nmembers = [\"*\"]\n";
    const EXCLUDING: &str = "[workspace]\nexclude = [\"a\"]\n";

    #[test]
    fn the_root_is_found_from_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for (path, text) in [
            ("alone/Cargo.toml", PACKAGE),
            ("ws/Cargo.toml", ROOT),
            ("ws/a/Cargo.toml", PACKAGE),
            ("ws/a/src/x", ""),
            ("excluding/Cargo.toml", EXCLUDING),
            ("excluding/a/Cargo.toml", PACKAGE),
            ("pointing/Cargo.toml", "[package]\nname = \"x\"\nworkspace = \"../ws\"\n"),
            ("broken/Cargo.toml", "no toml"),
        ] {
            let path = top.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(&path)
                .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
                .unwrap();
        }
        for (directory, manifest, expected) in [
            ("alone", None, Some("alone")),
            ("ws", None, Some("ws")),
            ("ws/a/src", None, Some("ws")),
            ("alone", Some("../ws/Cargo.toml"), Some("ws")),
            ("alone", Some("../ws/a/Cargo.toml"), Some("ws")),
            ("alone", Some("../pointing/Cargo.toml"), Some("ws")),
            ("excluding", None, Some("excluding")),
            ("excluding/a", None, None),
            ("alone", Some("../broken/Cargo.toml"), None),
            ("alone", Some("../ws/a.rs"), None),
            ("alone", Some("../absent/Cargo.toml"), None),
            ("", None, None),
        ] {
            let found = root(&top.join(directory), manifest.map(Path::new));
            assert_eq!(found, expected.map(|path| top.join(path)), "{directory} {manifest:?}");
        }
    }

    #[test]
    fn the_packages_without_a_source_are_the_members() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(members(dir.path()), None);
        let lock = "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\
                    [[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n";
        fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
        assert_eq!(members(dir.path()), Some(vec!["a".to_owned()]));
    }
}
