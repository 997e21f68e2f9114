//! The files of the repository.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use crate::source::Source;

/// Directories that are not part of the repository's own text.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", "corpus", "artifacts"];

/// The directory of this checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of one file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("failed to read {path}: {error}"))
}

/// Every text file, sorted by path. The files are read once for all rules.
pub(crate) fn all() -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(read_all);
    &ALL
}

fn read_all() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(root(), &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let tests: HashSet<String> = sources.iter().flat_map(Source::test_modules).collect();
    sources.iter_mut().filter(|source| tests.contains(&source.path)).for_each(Source::set_test);
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "this is not the repository");
    sources
}

fn collect(dir: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).expect("the repository is readable") {
        let path = entry.expect("the repository is readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() || SKIPPED.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let inside = path.strip_prefix(root()).expect("the walk began at the root");
            sources.push(Source::new(&inside.to_string_lossy().replace('\\', "/"), &text));
        }
    }
}
