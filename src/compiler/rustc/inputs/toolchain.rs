//! Identifies the toolchain of a call by the content of its files (KEY-12).
//!
//! A toolchain is the tree of the files that decide its outputs: the driver, its libraries, the linker that
//! comes with it, the standard library of the target. The tree is hashed once; after that, the stamps of its
//! files show that it did not change. The version text and the dates of the files are not part of its
//! identity. A compiler that is a script is refused, because kache cannot know which program it runs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kache_cas::digest::DirectoryMessage;
use kache_cas::encoding::{encode_directory, wire_digest};
use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi::{Directory, DirectoryNode, FileNode};

use super::proxy::resolve;
use crate::compiler::rustc::invocation::{DriverKind, RustcInvocation, TargetArgument};
use crate::inputs::{
    ByteReader, ByteWriter, DiskWorld, FileState, Toolchain, ToolchainFiles, World as _, ask,
};
use crate::invocation::{Bypass, Call, Reason};

/// The largest depth of a toolchain's directories. rustc's own toolchains need three.
const TREE_DEPTH_MAX: usize = 12;

/// Directories in which other software has its libraries, too.
const SHARED_PREFIXES: &[&str] = &["/", "/usr", "/usr/local"];

/// The beginnings of the names of a toolchain's own libraries in such directories.
const LIBRARY_NAMES: &[&str] = &["librustc", "libLLVM", "libstd-", "libtest-", "libproc_macro-"];

/// The library that contains the compiler.
const DRIVER_LIBRARY: &str = "librustc_driver";

/// A toolchain of rustc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RustcToolchain {
    /// The parts that all compilers have.
    pub common: Toolchain,
    /// The commit that the compiler was built from; empty if it does not say.
    pub commit_hash: String,
}

/// Returns the toolchain of this call. If no answer is remembered, it runs the compiler and hashes the
/// toolchain.
pub fn toolchain(rustc: &RustcInvocation, call: &Call, world: &DiskWorld) -> Result<RustcToolchain, Bypass> {
    let named = NamedToolchain::of(rustc, call, world)?;
    let mut question = ByteWriter(b"toolchain".to_vec());
    question.path(&named.driver).path(&named.rustc);
    question.optional(named.sysroot.as_deref().map(|path| path.as_os_str().as_bytes()));
    question.optional(named.target.as_deref().map(OsStr::as_bytes));
    let answer = world.cached_answer_about_installed(question, || {
        let (CompilerBanner { first_line, commit_hash, host }, sysroot, tree) = named.collect()?;
        let digest = tree.digest(world.function())?;
        // The files were hashed with both functions just now, so this costs nothing.
        if world.computes_twins() {
            world.note_twin(&digest, &tree.digest(world.other_function())?);
        }
        let mut value = ByteWriter::default();
        value.digest(&digest).path(&sysroot);
        value.bytes(&first_line).bytes(&commit_hash).bytes(&host);
        Ok((value.0, tree.depends_on))
    })?;
    let NamedToolchain { called, driver, rustc, .. } = named;
    let mut toolchain =
        decode(&answer.value, driver).ok_or_else(|| unknown(&rustc, "the remembered answer is damaged"))?;
    let common = &mut toolchain.common;
    common.called = if called == common.driver { driver_in_sysroot(common) } else { called };
    Ok(toolchain)
}

/// Returns the files of the call's toolchain with digests of this function, and makes `world` remember the digest
/// of their tree for [`DiskWorld::known_twin`]. Runs the compiler, and hashes those files whose digests in this
/// function are not remembered.
pub fn toolchain_files(
    rustc: &RustcInvocation,
    call: &Call,
    world: &DiskWorld,
    function: DigestFunction,
) -> Result<ToolchainFiles, Bypass> {
    let (_, _, tree) = NamedToolchain::of(rustc, call, world)?.collect()?;
    let files = tree.files(function)?;
    world.note_twin(&tree.digest(world.function())?, &files.tree);
    Ok(files)
}

/// Returns the driver's path in the sysroot if the driver was called through a link from outside, so that a
/// link makes no other toolchain.
fn driver_in_sysroot(Toolchain { driver, sysroot, .. }: &Toolchain) -> PathBuf {
    let is_below = |path: &Path| path.starts_with(sysroot);
    let is_driver = |real: &PathBuf| is_below(real) && real.file_name() == driver.file_name();
    let real = if is_below(driver) { None } else { driver.canonicalize().ok().filter(is_driver) };
    real.unwrap_or_else(|| driver.clone())
}

/// Returns the value of `--sysroot`, or with clippy that of the variable `SYSROOT`.
fn sysroot_argument(rustc: &RustcInvocation, call: &Call) -> Option<PathBuf> {
    let variable = || match rustc.driver_kind {
        DriverKind::Rustc => None,
        DriverKind::Clippy => call.env.path("SYSROOT"),
    };
    let given = rustc.sysroot.clone().or_else(|| variable().map(PathBuf::from));
    given.map(|path| call.cwd.join(path))
}

/// A toolchain as a call names it.
struct NamedToolchain<'a> {
    world: &'a DiskWorld,
    call: &'a Call,
    /// The program that the call names; rustup's proxy is not resolved.
    called: PathBuf,
    /// The program that this call runs.
    driver: PathBuf,
    /// The compiler itself. It differs from the driver for clippy.
    rustc: PathBuf,
    /// The value of the option `--sysroot`, if the call has it.
    sysroot: Option<PathBuf>,
    /// The name of the target's directory; `None` for the host.
    target: Option<OsString>,
}

/// The parts of `rustc -vV` that kache uses.
struct CompilerBanner {
    first_line: String,
    commit_hash: String,
    host: String,
}

impl<'a> NamedToolchain<'a> {
    fn of(
        rustc: &RustcInvocation,
        call: &'a Call,
        world: &'a DiskWorld,
    ) -> Result<NamedToolchain<'a>, Bypass> {
        let (called, driver) = resolve(&rustc.driver, call, world)?;
        let named =
            if rustc.rustc == rustc.driver { driver.clone() } else { resolve(&rustc.rustc, call, world)?.1 };
        let sysroot = sysroot_argument(rustc, call);
        let target = match &rustc.target {
            Some(TargetArgument::Triple(triple)) => Some(OsString::from(triple)),
            Some(TargetArgument::Spec(path)) => path.file_stem().map(OsStr::to_owned),
            None => None,
        };
        Ok(NamedToolchain { world, call, called, driver, rustc: named, sysroot, target })
    }

    /// Collects the files of the toolchain. Returns them with what the compiler says of itself, and with the
    /// sysroot.
    fn collect(&self) -> Result<(CompilerBanner, PathBuf, ToolchainTree<'a>), Bypass> {
        for program in [&self.driver, &self.rustc] {
            refuse_script(program)?;
        }
        let banner = self.banner()?;
        let own = PathBuf::from(self.ask(&["--print", "sysroot"])?.trim_end_matches('\n'));
        let sysroot = self.sysroot.clone().unwrap_or_else(|| own.clone());
        let mut tree = ToolchainTree { world: self.world, root: TreeNode::default(), depends_on: Vec::new() };
        tree.depends_on.push(self.rustc.clone());
        tree.depends_on.push(sysroot.join("lib/rustlib"));
        let name = self.driver.file_name().ok_or_else(|| unknown(&self.driver, "it has no name"))?;
        tree.add_file(&[OsStr::new("bin"), name], &self.driver)?;
        self.add_libraries(&own, &mut tree)?;
        let rustlib = sysroot.join("lib/rustlib");
        let host = OsStr::new(&banner.host);
        let target = self.target.as_deref().unwrap_or(host);
        for part in ["bin", "codegen-backends"] {
            tree.add_directory(&["lib", "rustlib", &banner.host, part], &rustlib.join(host).join(part), 0)?;
        }
        let target_name = target.to_string_lossy();
        tree.add_directory(&["lib", "rustlib", &target_name], &rustlib.join(target), 0)?;
        Ok((banner, sysroot, tree))
    }

    /// Adds the libraries of the driver: the compiler, LLVM and, in some distributions, the standard library.
    fn add_libraries(&self, own: &Path, tree: &mut ToolchainTree<'_>) -> Result<(), Bypass> {
        let is_shared = SHARED_PREFIXES.iter().any(|prefix| own == Path::new(prefix));
        let lib = own.join("lib");
        let mut dirs = vec![lib.clone()];
        if is_shared {
            // Debian and similar systems have a subdirectory for each architecture.
            dirs.extend(self.names(&lib)?.iter().map(|name| lib.join(name)).filter(|dir| dir.is_dir()));
        }
        let mut has_driver = false;
        for dir in dirs {
            let names = self.names(&dir)?;
            let ours: Vec<_> = names.iter().filter(|name| !is_shared || is_library(name)).collect();
            if !ours.is_empty() {
                tree.depends_on.push(dir.clone());
            }
            for name in ours {
                let path = dir.join(name);
                if path.is_file() {
                    has_driver |= name.as_bytes().starts_with(DRIVER_LIBRARY.as_bytes());
                    tree.add_file(&[OsStr::new("lib"), name], &path)?;
                }
            }
        }
        match has_driver {
            true => Ok(()),
            false => Err(unknown(&self.rustc, "its library `librustc_driver` was not found")),
        }
    }

    fn names(&self, dir: &Path) -> Result<Vec<OsString>, Bypass> {
        let names = self.world.names(dir).map_err(|error| unknown(dir, &error.to_string()))?;
        let names = names.unwrap_or_default().into_iter();
        Ok(names.map(|name| OsStr::from_bytes(&name).to_owned()).collect())
    }

    fn banner(&self) -> Result<CompilerBanner, Bypass> {
        let text = self.ask(&["-vV"])?;
        let after = |label: &str| {
            text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default().to_owned()
        };
        let first_line = text.lines().next().unwrap_or_default().to_owned();
        let commit_hash = Some(after("commit-hash: ")).filter(|hash| hash != "unknown").unwrap_or_default();
        let banner = CompilerBanner { first_line, commit_hash, host: after("host: ") };
        match banner.host.is_empty() {
            false => Ok(banner),
            true => Err(unknown(&self.rustc, "it does not tell its host")),
        }
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, Bypass> {
        let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
        let answer = ask(&self.rustc, &arguments, &self.call.env, &["HOME", "PATH"], Path::new("/"));
        answer.map_err(|error| unknown(&self.rustc, &error.to_string()))
    }
}

fn is_library(name: &OsStr) -> bool {
    LIBRARY_NAMES.iter().any(|start| name.as_bytes().starts_with(start.as_bytes()))
}

fn refuse_script(program: &Path) -> Result<(), Bypass> {
    let mut start = [0; 2];
    let read = File::open(program).and_then(|mut file| file.read(&mut start));
    match read {
        Err(error) => Err(unknown(program, &error.to_string())),
        Ok(_) if start == *b"#!" => Err(unknown(program, "it is a script")),
        Ok(_) => Ok(()),
    }
}

/// The tree of a toolchain's files, while it is being collected.
struct ToolchainTree<'a> {
    world: &'a DiskWorld,
    root: TreeNode,
    /// All paths on which the tree depends.
    depends_on: Vec<PathBuf>,
}

#[derive(Default)]
struct TreeNode {
    files: BTreeMap<OsString, TreeFile>,
    children: BTreeMap<OsString, TreeNode>,
}

/// A file of a toolchain.
struct TreeFile {
    path: PathBuf,
    digest: Digest,
    is_executable: bool,
}

impl ToolchainTree<'_> {
    /// Returns the digest of the whole tree.
    fn digest(&self, function: DigestFunction) -> Result<Digest<DirectoryMessage>, Bypass> {
        self.files(function).map(|files| files.tree)
    }

    fn files(&self, function: DigestFunction) -> Result<ToolchainFiles, Bypass> {
        let (mut directories, mut files) = (Vec::new(), Vec::new());
        let tree = self.root.collect(function, self.world, &mut directories, &mut files)?;
        Ok(ToolchainFiles { tree, directories, files })
    }

    /// Adds a file at `path_in_tree`.
    fn add_file(&mut self, path_in_tree: &[&OsStr], path: &Path) -> Result<(), Bypass> {
        let state = self.world.state(path).map_err(|error| unknown(path, &error.to_string()))?;
        let FileState::File { digest, is_executable } = state else {
            return Err(unknown(path, "it is not a file"));
        };
        self.depends_on.push(path.to_owned());
        let (name, dirs) = path_in_tree.split_last().expect("a path in the tree has a name");
        let node = dirs.iter().fold(&mut self.root, |node, dir| node.children.entry(dir.into()).or_default());
        node.files.insert(name.into(), TreeFile { path: path.to_owned(), digest, is_executable });
        Ok(())
    }

    /// Adds all files below a directory, at `path_in_tree`.
    fn add_directory<S: AsRef<OsStr>>(
        &mut self,
        path_in_tree: &[S],
        dir: &Path,
        depth: usize,
    ) -> Result<(), Bypass> {
        if depth > TREE_DEPTH_MAX {
            return Err(unknown(dir, "its directories are too deep"));
        }
        self.depends_on.push(dir.to_owned());
        let names = self.world.names(dir).map_err(|error| unknown(dir, &error.to_string()))?;
        for name in names.unwrap_or_default() {
            let name = OsStr::from_bytes(&name);
            let mut below: Vec<&OsStr> = path_in_tree.iter().map(AsRef::as_ref).collect();
            below.push(name);
            let path = dir.join(name);
            match path.is_dir() {
                true => self.add_directory(&below, &path, depth + 1)?,
                false => self.add_file(&below, &path)?,
            }
        }
        Ok(())
    }
}

impl TreeNode {
    /// Adds the directories and files of the tree to two lists, and returns the digest of the tree.
    fn collect(
        &self,
        function: DigestFunction,
        world: &DiskWorld,
        directories: &mut Vec<(Digest, Bytes)>,
        files: &mut Vec<(Digest, PathBuf)>,
    ) -> Result<Digest<DirectoryMessage>, Bypass> {
        let mut directory = Directory::default();
        for (name, file) in &self.files {
            let digest = file.digest(function, world)?;
            files.push((digest, file.path.clone()));
            directory.files.push(FileNode {
                name: text(name)?,
                digest: Some(wire_digest(&digest)),
                is_executable: file.is_executable,
                ..Default::default()
            });
        }
        for (name, child) in &self.children {
            let digest = Some(wire_digest(&child.collect(function, world, directories, files)?));
            directory.directories.push(DirectoryNode { name: text(name)?, digest });
        }
        let encoded = encode_directory(function, directory).map_err(|error| {
            Bypass::new(Reason::UnknownCompiler, format!("failed to encode its files: {error}"))
        })?;
        directories.push((encoded.digest().coerce(), encoded.bytes().clone()));
        Ok(encoded.digest())
    }
}

impl TreeFile {
    fn digest(&self, function: DigestFunction, world: &DiskWorld) -> Result<Digest, Bypass> {
        let twin = world.file_twin(&self.path, &self.digest, function);
        let twin = twin.map_err(|error| unknown(&self.path, &error.to_string()))?;
        twin.ok_or_else(|| unknown(&self.path, "it changes while kache reads it"))
    }
}

fn text(name: &OsStr) -> Result<String, Bypass> {
    name.to_str().map(str::to_owned).ok_or_else(|| unknown(Path::new(name), "its name is not UTF-8"))
}

fn decode(value: &[u8], driver: PathBuf) -> Option<RustcToolchain> {
    let mut reader = ByteReader(value);
    let (tree, sysroot) = (reader.digest()?, reader.path()?);
    let (banner, commit_hash, host) = (reader.text()?, reader.text()?, reader.text()?);
    let common = Toolchain { tree, sysroot, called: driver.clone(), driver, banner, host };
    Some(RustcToolchain { common, commit_hash })
}

fn unknown(path: &Path, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownCompiler, format!("`{}`: {why}", path.display()))
}
