//! Which workspace a cargo builds: by its manifest, as cargo finds it.
//!
//! Where that cannot be told for sure, there is none: then nothing is laid down, and no directory is
//! made in a checkout that cargo was not asked to build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a manifest is called.
const MANIFEST: &str = "Cargo.toml";

/// A longer manifest is not read.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The root of the workspace that a cargo in this directory builds, or one that was given this
/// manifest. `None` where that cannot be told.
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
    for above in package.ancestors().skip(1) {
        match Manifest::read(above)? {
            // Whether it leaves this package out is for cargo to say.
            Some(Manifest { is_root: true, excludes: true, .. } | Manifest { workspace: Some(_), .. }) => {
                return None;
            }
            Some(Manifest { is_root: true, .. }) => return Some(above.to_owned()),
            Some(_) | None => {}
        }
    }
    Some(package)
}

/// What a manifest says of workspaces.
#[derive(Debug, Default)]
struct Manifest {
    /// It has a `[workspace]`.
    is_root: bool,
    /// That leaves directories out.
    excludes: bool,
    /// `package.workspace`
    workspace: Option<PathBuf>,
}

impl Manifest {
    /// The one in this directory, if there is one; `None` where it cannot be read.
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
    fn the_workspace_is_that_of_the_manifest() {
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
}
