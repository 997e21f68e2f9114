//! The blobs and trees that an action result names, and whether a result is acceptable at all.
//!
//! The functions are pure: messages in, digests out; nothing is looked up. `completeness` reads
//! the trees, and [`tree_references`] lists the digests in them.
//!
//! Invariant: a result that [`admit`] accepted has only relative paths that stay inside the
//! working directory, well-formed digests, a tree for every directory, and an encoding that is
//! never zero bytes long.

use kache_proto::reapi::{
    ActionResult, Digest as WireDigest, Directory, ExecutedActionMetadata, OutputSymlink, Tree,
};

use crate::digest::{Digest, DigestFunction, TreeMessage};
use crate::error::StoreError;

/// The worker name of a result that names none. The field has to be set so that an otherwise empty
/// result does not encode to zero bytes, which clients take for a miss.
pub const UNKNOWN_WORKER: &str = "unknown";

/// The longest path that a result may name: the longest that Linux accepts in a system call.
pub const PATH_BYTES_MAX: usize = 4096;

/// The digests that a result names directly, without those in its trees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Output files, stdout, stderr, root directories, and the blobs of the trees themselves.
    pub blobs: Vec<Digest>,
    /// The trees, whose own digests count as well.
    pub trees: Vec<TreeReference>,
}

/// A tree that a result names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TreeReference {
    /// The digest of the encoded `Tree`.
    pub digest: Digest<TreeMessage>,
    /// Whether the result also names the tree's directories, each as a blob of its own.
    pub with_directories: bool,
}

/// Checks a result before it is stored, and fills in the worker name if there is none. Returns an
/// error that names the wrong field if the result must not be stored.
pub fn admit(function: DigestFunction, mut result: ActionResult) -> Result<ActionResult, StoreError> {
    check_paths(&result)?;
    references(function, &result)?;
    let metadata = result.execution_metadata.get_or_insert_with(ExecutedActionMetadata::default);
    if metadata.worker.is_empty() {
        metadata.worker = UNKNOWN_WORKER.to_owned();
    }
    Ok(result)
}

/// Lists the digests that a result names directly, each once, in the order in which they first
/// occur. The empty blob is left out: every store holds it.
pub fn references(function: DigestFunction, result: &ActionResult) -> Result<References, StoreError> {
    let mut found = References::default();
    for file in &result.output_files {
        let field = || format!("output file `{}`", file.path);
        found.blobs.push(required(function, file.digest.as_ref(), field)?);
    }
    for directory in &result.output_directories {
        let field = || format!("tree of output directory `{}`", directory.path);
        let tree = required(function, directory.tree_digest.as_ref(), field)?;
        let root = directory.root_directory_digest.as_ref();
        found.blobs.push(tree);
        found.trees.push(TreeReference { digest: tree.coerce(), with_directories: root.is_some() });
        let field = || format!("root of output directory `{}`", directory.path);
        found.blobs.extend(root.map(|root| parse(function, root, field)).transpose()?);
    }
    let streams = [("stdout", &result.stdout_digest), ("stderr", &result.stderr_digest)];
    for (name, digest) in streams {
        let digest = digest.as_ref().map(|digest| parse(function, digest, || name.to_owned()));
        found.blobs.extend(digest.transpose()?);
    }
    found.blobs = distinct(found.blobs);
    Ok(found)
}

/// Lists the digests of a tree's files, and of its directories if `with_directories`. Each digest
/// occurs once; the empty blob is left out.
pub fn tree_references(
    function: DigestFunction,
    tree: &Tree,
    with_directories: bool,
) -> Result<Vec<Digest>, StoreError> {
    let mut found = Vec::new();
    for directory in tree.root.iter().chain(&tree.children) {
        directory_references(function, directory, with_directories, &mut found)?;
    }
    Ok(distinct(found))
}

fn directory_references(
    function: DigestFunction,
    directory: &Directory,
    with_directories: bool,
    found: &mut Vec<Digest>,
) -> Result<(), StoreError> {
    for file in &directory.files {
        found.push(required(function, file.digest.as_ref(), || format!("file `{}` of a tree", file.name))?);
    }
    if with_directories {
        for child in &directory.directories {
            let field = || format!("directory `{}` of a tree", child.name);
            found.push(required(function, child.digest.as_ref(), field)?);
        }
    }
    Ok(())
}

fn required(
    function: DigestFunction,
    digest: Option<&WireDigest>,
    field: impl Fn() -> String,
) -> Result<Digest, StoreError> {
    let digest = digest.ok_or_else(|| invalid(format!("{} has no digest", field())))?;
    parse(function, digest, field)
}

fn parse(
    function: DigestFunction,
    digest: &WireDigest,
    field: impl Fn() -> String,
) -> Result<Digest, StoreError> {
    Digest::parse(function, &digest.hash, digest.size_bytes)
        .map_err(|error| invalid(format!("{}: {error}", field())))
}

fn invalid(why: String) -> StoreError {
    StoreError::InvalidResult { why }
}

/// Removes repeated digests and the empty blob; keeps the order.
fn distinct(digests: Vec<Digest>) -> Vec<Digest> {
    let mut seen = std::collections::HashSet::with_capacity(digests.len());
    digests.into_iter().filter(|digest| !digest.is_empty_blob() && seen.insert(*digest)).collect()
}

fn check_paths(result: &ActionResult) -> Result<(), StoreError> {
    for file in &result.output_files {
        check_path("output file", &file.path, false)?;
    }
    for symlink in symlinks(result) {
        check_path("output symlink", &symlink.path, false)?;
        // The target may be any text: the client that restores the link decides what it allows.
        if symlink.target.is_empty() {
            return Err(invalid(format!("output symlink `{}` has no target", symlink.path)));
        }
    }
    for directory in &result.output_directories {
        // For a directory, the empty path means the working directory itself.
        check_path("output directory", &directory.path, true)?;
    }
    Ok(())
}

#[expect(deprecated, reason = "clients of API 2.0 still fill the two older lists")]
fn symlinks(result: &ActionResult) -> impl Iterator<Item = &OutputSymlink> {
    let older = result.output_file_symlinks.iter().chain(&result.output_directory_symlinks);
    result.output_symlinks.iter().chain(older)
}

/// Rejects a path that is absolute, that is empty where this has no meaning, or that leads above
/// its starting directory at any segment, even if it comes back.
fn check_path(what: &str, path: &str, may_be_empty: bool) -> Result<(), StoreError> {
    let wrong = |why: &str| Err(invalid(format!("{what} `{}` {why}", excerpt(path))));
    if path.is_empty() && !may_be_empty {
        return wrong("has no path");
    }
    if path.len() > PATH_BYTES_MAX {
        return wrong(&format!("has a path of more than {PATH_BYTES_MAX} bytes"));
    }
    if path.starts_with('/') {
        return wrong("has an absolute path");
    }
    if path.contains('\0') {
        return wrong("has a path with a NUL in it");
    }
    if leads_above_start(path) {
        return wrong("has a path that leaves the working directory");
    }
    Ok(())
}

fn leads_above_start(path: &str) -> bool {
    let mut depth = 0usize;
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// How much of a path an error message repeats.
const EXCERPT_CHARS_MAX: usize = 120;

fn excerpt(path: &str) -> String {
    path.chars().take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use kache_proto::reapi::{DirectoryNode, FileNode, OutputDirectory, OutputFile};

    use super::*;
    use crate::store::StoredResult;

    const SHA256: DigestFunction = DigestFunction::Sha256;

    fn wire(text: &str) -> Option<WireDigest> {
        let digest = Digest::<crate::digest::Blob>::of(SHA256, text.as_bytes());
        Some(WireDigest { hash: digest.hash.to_hex(), size_bytes: text.len() as i64 })
    }

    fn digest(text: &str) -> Digest {
        Digest::of(SHA256, text.as_bytes())
    }

    fn file(path: &str) -> OutputFile {
        OutputFile { path: path.to_owned(), digest: wire(path), ..Default::default() }
    }

    fn with_file(file: OutputFile) -> ActionResult {
        ActionResult { output_files: vec![file], ..Default::default() }
    }

    fn assert_rejected(result: ActionResult, part_of_why: &str) {
        match admit(SHA256, result) {
            Err(StoreError::InvalidResult { why }) => assert!(why.contains(part_of_why), "{why}"),
            other => panic!("{part_of_why}: {other:?}"),
        }
    }

    #[test]
    fn each_digest_in_a_result_is_listed_once() {
        let result = ActionResult {
            output_files: vec![file("a"), file("b"), file("a")],
            output_directories: vec![OutputDirectory {
                path: "d".to_owned(),
                tree_digest: wire("tree"),
                root_directory_digest: wire("root"),
                ..Default::default()
            }],
            stdout_digest: wire("out"),
            stderr_digest: wire(""),
            ..Default::default()
        };
        let found = references(SHA256, &result).unwrap();
        assert_eq!(found.blobs, ["a", "b", "tree", "root", "out"].map(digest));
        let tree = TreeReference { digest: digest("tree").coerce(), with_directories: true };
        assert_eq!(found.trees, [tree]);
    }

    #[test]
    fn the_files_of_every_directory_of_a_tree_are_listed() {
        let node = |name: &str| FileNode { name: name.to_owned(), digest: wire(name), ..Default::default() };
        let child = DirectoryNode { name: "sub".to_owned(), digest: wire("sub") };
        let root = Directory { files: vec![node("x")], directories: vec![child], ..Default::default() };
        let below = Directory { files: vec![node("y"), node("x")], ..Default::default() };
        let tree = Tree { root: Some(root), children: vec![below] };
        assert_eq!(tree_references(SHA256, &tree, false).unwrap(), ["x", "y"].map(digest));
        assert_eq!(tree_references(SHA256, &tree, true).unwrap(), ["x", "sub", "y"].map(digest));

        let nameless = FileNode { name: "z".to_owned(), ..Default::default() };
        let root = Directory { files: vec![nameless], ..Default::default() };
        assert!(tree_references(SHA256, &Tree { root: Some(root), children: vec![] }, false).is_err());
    }

    #[test]
    #[expect(deprecated, reason = "clients of API 2.0 still fill the two older lists")]
    fn an_absolute_path_and_one_that_leads_above_its_start_are_rejected() {
        for (path, why) in [
            ("/etc/passwd", "absolute"),
            ("../x", "leaves"),
            ("a/../../x", "leaves"),
            ("a/../../a/x", "leaves"),
            ("./..", "leaves"),
            ("", "no path"),
            ("a\0b", "NUL"),
            (&"x".repeat(PATH_BYTES_MAX + 1), "more than"),
        ] {
            assert_rejected(with_file(file(path)), why);
            let link = |target: &str| OutputSymlink {
                path: path.to_owned(),
                target: target.to_owned(),
                ..Default::default()
            };
            assert_rejected(ActionResult { output_symlinks: vec![link("t")], ..Default::default() }, why);
            assert_rejected(
                ActionResult { output_file_symlinks: vec![link("t")], ..Default::default() },
                why,
            );
            assert_rejected(
                ActionResult { output_directory_symlinks: vec![link("t")], ..Default::default() },
                why,
            );
        }
        for path in ["a", "a/b", "a/../b", "..a/b..", "./a", "a//b"] {
            assert!(admit(SHA256, with_file(file(path))).is_ok(), "{path}");
        }
    }

    #[test]
    fn an_output_directory_needs_a_tree_even_if_it_is_the_working_directory() {
        let directory = |path: &str, tree_digest| {
            let directory = OutputDirectory { path: path.to_owned(), tree_digest, ..Default::default() };
            ActionResult { output_directories: vec![directory], ..Default::default() }
        };
        assert!(admit(SHA256, directory("", wire("tree"))).is_ok());
        assert_rejected(directory("d", None), "tree of output directory `d` has no digest");
        assert_rejected(directory("../d", wire("tree")), "leaves");
    }

    #[test]
    fn a_missing_or_malformed_digest_is_rejected() {
        assert_rejected(with_file(OutputFile { digest: None, ..file("a") }), "no digest");
        let upper = wire("a").map(|d| WireDigest { hash: d.hash.to_uppercase(), ..d });
        assert_rejected(with_file(OutputFile { digest: upper.clone(), ..file("a") }), "lower-case");
        let negative = wire("a").map(|d| WireDigest { size_bytes: -1, ..d });
        assert_rejected(with_file(OutputFile { digest: negative, ..file("a") }), "size");
        assert_rejected(ActionResult { stdout_digest: upper.clone(), ..Default::default() }, "stdout");
        assert_rejected(ActionResult { stderr_digest: upper, ..Default::default() }, "stderr");
    }

    #[test]
    fn a_symlink_without_a_target_is_rejected() {
        let link = OutputSymlink { path: "l".to_owned(), ..Default::default() };
        assert_rejected(ActionResult { output_symlinks: vec![link], ..Default::default() }, "no target");
    }

    #[test]
    fn an_accepted_result_never_encodes_to_zero_bytes() {
        let admitted = admit(SHA256, ActionResult::default()).unwrap();
        assert!(!StoredResult::new(&admitted).encoded.is_empty());
        let metadata = ExecutedActionMetadata { worker: "w".to_owned(), ..Default::default() };
        let result = ActionResult { execution_metadata: Some(metadata), ..Default::default() };
        assert_eq!(admit(SHA256, result.clone()).unwrap(), result, "a worker that is named stays");
    }
}
