//! Which compiler it is, by content (KEY-12).
//!
//! A toolchain is the tree of the files that decide what it makes: the driver, its libraries,
//! the linker that comes with it, the standard library of the target. The tree is hashed
//! once; afterwards the stamps of its files show that it is the same. Its banner and its
//! dates identify nothing. A compiler that is a script is refused: what it runs is anybody's
//! guess.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::Digest;
use kache_cas::digest::DirectoryMessage;
use kache_cas::encoding::{encode_directory, wire_digest};
use kache_proto::reapi::{Directory, DirectoryNode, FileNode};

use super::bytes::{Reader, Writer};
use super::disk_world::{DiskWorld, FUNCTION};
use super::process::ask;
use super::proxy::resolve;
use super::types::Toolchain;
use super::world::{FileState, World as _};
use crate::invocation::rustc::{DriverKind, RustcInvocation, TargetArgument};
use crate::invocation::{Bypass, Call, Reason};

/// How deep a toolchain's directories are followed; its own are three deep.
const TREE_DEPTH_MAX: usize = 12;

/// Directories that hold libraries of everybody, not those of a toolchain alone.
const SHARED_PREFIXES: &[&str] = &["/", "/usr", "/usr/local"];

/// How a toolchain's own libraries begin there.
const LIBRARY_NAMES: &[&str] = &["librustc", "libLLVM", "libstd-", "libtest-", "libproc_macro-"];

/// The library that is the compiler.
const DRIVER_LIBRARY: &str = "librustc_driver";

/// The toolchain that this call asks.
pub fn toolchain(rustc: &RustcInvocation, call: &Call, world: &DiskWorld) -> Result<Toolchain, Bypass> {
    let (called, driver) = resolve(&rustc.driver, call, world)?;
    let named =
        if rustc.rustc == rustc.driver { driver.clone() } else { resolve(&rustc.rustc, call, world)?.1 };
    let sysroot = sysroot_argument(rustc, call);
    let target = match &rustc.target {
        Some(TargetArgument::Triple(triple)) => Some(OsString::from(triple)),
        Some(TargetArgument::Spec(path)) => path.file_stem().map(OsStr::to_owned),
        None => None,
    };
    let mut question = Writer(b"toolchain".to_vec());
    question.path(&driver).path(&named);
    question.optional(sysroot.as_deref().map(|path| path.as_os_str().as_bytes()));
    question.optional(target.as_deref().map(OsStr::as_bytes));
    let fact = world.fact_of_installed(question, || {
        Finder { world, driver: &driver, rustc: &named, call }.find(sysroot.as_deref(), target.as_deref())
    })?;
    let mut found =
        decode(&fact.value, driver).ok_or_else(|| unknown(&named, "what is known of it is damaged"))?;
    found.called = if called == found.driver { in_its_place(&found) } else { called };
    Ok(found)
}

/// A toolchain by another name, as a link gives it, is the same toolchain.
fn in_its_place(Toolchain { driver, sysroot, .. }: &Toolchain) -> PathBuf {
    let is_below = |path: &Path| path.starts_with(sysroot);
    let is_it = |real: &PathBuf| is_below(real) && real.file_name() == driver.file_name();
    let real = if is_below(driver) { None } else { driver.canonicalize().ok().filter(is_it) };
    real.unwrap_or_else(|| driver.clone())
}

/// `--sysroot`, or what stands for it with clippy.
fn sysroot_argument(rustc: &RustcInvocation, call: &Call) -> Option<PathBuf> {
    let variable = || match rustc.driver_kind {
        DriverKind::Rustc => None,
        DriverKind::Clippy => call.env.path("SYSROOT"),
    };
    let given = rustc.sysroot.clone().or_else(|| variable().map(PathBuf::from));
    given.map(|path| call.cwd.join(path))
}

struct Finder<'a> {
    world: &'a DiskWorld,
    driver: &'a Path,
    rustc: &'a Path,
    call: &'a Call,
}

/// What a compiler says of itself.
struct Banner {
    first_line: String,
    commit_hash: String,
    host: String,
}

impl Finder<'_> {
    /// The toolchain, encoded, and every path that the answer depends on.
    fn find(
        &self,
        sysroot: Option<&Path>,
        target: Option<&OsStr>,
    ) -> Result<(Vec<u8>, Vec<PathBuf>), Bypass> {
        for program in [self.driver, self.rustc] {
            refuse_script(program)?;
        }
        let banner = self.banner()?;
        let own = PathBuf::from(self.ask(&["--print", "sysroot"])?.trim_end_matches('\n'));
        let sysroot = sysroot.unwrap_or(&own);
        let mut tree = Tree { world: self.world, root: Node::default(), seen: Vec::new() };
        tree.seen.push(self.rustc.to_owned());
        tree.seen.push(sysroot.join("lib/rustlib"));
        let name = self.driver.file_name().ok_or_else(|| unknown(self.driver, "it has no name"))?;
        tree.file(&[OsStr::new("bin"), name], self.driver)?;
        self.libraries(&own, &mut tree)?;
        let rustlib = sysroot.join("lib/rustlib");
        let host = OsStr::new(&banner.host);
        let target = target.unwrap_or(host);
        for part in ["bin", "codegen-backends"] {
            tree.directory(&["lib", "rustlib", &banner.host, part], &rustlib.join(host).join(part), 0)?;
        }
        let target_name = target.to_string_lossy();
        tree.directory(&["lib", "rustlib", &target_name], &rustlib.join(target), 0)?;
        let mut value = Writer::default();
        value.digest(&tree.root.digest()?).path(sysroot);
        value.bytes(&banner.first_line).bytes(&banner.commit_hash).bytes(&banner.host);
        Ok((value.0, tree.seen))
    }

    /// The compiler itself is a library, and so are its code generator and, with some
    /// distributors, its standard library.
    fn libraries(&self, own: &Path, tree: &mut Tree<'_>) -> Result<(), Bypass> {
        let is_shared = SHARED_PREFIXES.iter().any(|prefix| own == Path::new(prefix));
        let lib = own.join("lib");
        let mut dirs = vec![lib.clone()];
        if is_shared {
            // Debian and its like have a directory for each architecture.
            dirs.extend(self.names(&lib)?.iter().map(|name| lib.join(name)).filter(|dir| dir.is_dir()));
        }
        let mut has_driver = false;
        for dir in dirs {
            let names = self.names(&dir)?;
            let ours: Vec<_> = names.iter().filter(|name| !is_shared || is_library(name)).collect();
            if !ours.is_empty() {
                tree.seen.push(dir.clone());
            }
            for name in ours {
                let path = dir.join(name);
                if path.is_file() {
                    has_driver |= name.as_bytes().starts_with(DRIVER_LIBRARY.as_bytes());
                    tree.file(&[OsStr::new("lib"), name], &path)?;
                }
            }
        }
        match has_driver {
            true => Ok(()),
            false => Err(unknown(self.rustc, "its library `librustc_driver` was not found")),
        }
    }

    fn names(&self, dir: &Path) -> Result<Vec<OsString>, Bypass> {
        let names = self.world.names(dir).map_err(|error| unknown(dir, &error.to_string()))?;
        let names = names.unwrap_or_default().into_iter();
        Ok(names.map(|name| OsStr::from_bytes(&name).to_owned()).collect())
    }

    fn banner(&self) -> Result<Banner, Bypass> {
        let said = self.ask(&["-vV"])?;
        let after = |label: &str| {
            said.lines().find_map(|line| line.strip_prefix(label)).unwrap_or_default().to_owned()
        };
        let first_line = said.lines().next().unwrap_or_default().to_owned();
        let known_hash = Some(after("commit-hash: ")).filter(|hash| hash != "unknown").unwrap_or_default();
        let banner = Banner { first_line, commit_hash: known_hash, host: after("host: ") };
        match banner.host.is_empty() {
            false => Ok(banner),
            true => Err(unknown(self.rustc, "it does not say which host it is for")),
        }
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, Bypass> {
        let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
        let answer = ask(self.rustc, &arguments, &self.call.env, &["HOME", "PATH"], Path::new("/"));
        answer.map_err(|error| unknown(self.rustc, &error.to_string()))
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

/// Files by their place in the toolchain, and everything that was looked at.
struct Tree<'a> {
    world: &'a DiskWorld,
    root: Node,
    seen: Vec<PathBuf>,
}

#[derive(Default)]
struct Node {
    files: BTreeMap<OsString, (Digest, bool)>,
    children: BTreeMap<OsString, Node>,
}

impl Tree<'_> {
    fn file(&mut self, place: &[&OsStr], path: &Path) -> Result<(), Bypass> {
        let state = self.world.state(path).map_err(|error| unknown(path, &error.to_string()))?;
        let FileState::File { digest, is_executable } = state else {
            return Err(unknown(path, "it is no file"));
        };
        self.seen.push(path.to_owned());
        let (name, dirs) = place.split_last().expect("a place has a name");
        let node = dirs.iter().fold(&mut self.root, |node, dir| node.children.entry(dir.into()).or_default());
        node.files.insert(name.into(), (digest, is_executable));
        Ok(())
    }

    fn directory<S: AsRef<OsStr>>(&mut self, place: &[S], dir: &Path, depth: usize) -> Result<(), Bypass> {
        if depth > TREE_DEPTH_MAX {
            return Err(unknown(dir, "its directories are too deep"));
        }
        self.seen.push(dir.to_owned());
        let names = self.world.names(dir).map_err(|error| unknown(dir, &error.to_string()))?;
        for name in names.unwrap_or_default() {
            let name = OsStr::from_bytes(&name);
            let mut below: Vec<&OsStr> = place.iter().map(AsRef::as_ref).collect();
            below.push(name);
            let path = dir.join(name);
            match path.is_dir() {
                true => self.directory(&below, &path, depth + 1)?,
                false => self.file(&below, &path)?,
            }
        }
        Ok(())
    }
}

impl Node {
    fn digest(&self) -> Result<Digest<DirectoryMessage>, Bypass> {
        let mut directory = Directory::default();
        for (name, (digest, is_executable)) in &self.files {
            directory.files.push(FileNode {
                name: text(name)?,
                digest: Some(wire_digest(digest)),
                is_executable: *is_executable,
                ..Default::default()
            });
        }
        for (name, child) in &self.children {
            let digest = Some(wire_digest(&child.digest()?));
            directory.directories.push(DirectoryNode { name: text(name)?, digest });
        }
        let encoded = encode_directory(FUNCTION, directory);
        encoded.map(|encoded| encoded.digest()).map_err(|error| {
            Bypass::new(Reason::UnknownCompiler, format!("its files cannot be named: {error}"))
        })
    }
}

fn text(name: &OsStr) -> Result<String, Bypass> {
    name.to_str().map(str::to_owned).ok_or_else(|| unknown(Path::new(name), "its name is not UTF-8"))
}

fn decode(value: &[u8], driver: PathBuf) -> Option<Toolchain> {
    let mut reader = Reader(value);
    Some(Toolchain {
        tree: reader.digest()?,
        sysroot: reader.path()?,
        called: driver.clone(),
        driver,
        banner: reader.text()?,
        commit_hash: reader.text()?,
        host: reader.text()?,
    })
}

fn unknown(path: &Path, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownCompiler, format!("`{}`: {why}", path.display()))
}
