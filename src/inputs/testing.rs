//! Helpers for the tests of inputs: calls, files, the real toolchain.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kache_cas::{Digest, DigestFunction, FileStamp};

use super::DiskWorld;
use super::types::Toolchain;
use crate::invocation::rustc::{ParsedCall, RustcInvocation};
use crate::invocation::{Call, Environment};

/// Returns a call from this directory.
pub(super) fn call(cwd: &Path) -> Call {
    let cwd = cwd.to_owned();
    Call { argv: Vec::new(), cwd, env: Environment::default(), umask: 0o022, stdin: None }
}

/// Returns an environment with these variables.
pub(super) fn environment<'a, V: Into<OsString>>(
    pairs: impl IntoIterator<Item = (&'a str, V)>,
) -> Environment {
    pairs.into_iter().collect()
}

/// Returns the invocation for a library with this source and no other inputs.
pub(super) fn compile(source: &str) -> RustcInvocation {
    parse(&["rustc", "--crate-name=x", "--crate-type=lib", "--emit=dep-info,metadata,link", source])
}

/// What the parser makes of a command line.
pub(super) fn parse(argv: &[&str]) -> RustcInvocation {
    let mut call = call(Path::new("/"));
    call.argv = argv.iter().map(OsString::from).collect();
    match crate::invocation::rustc::parse(&call, &|path| fs::read(path)) {
        ParsedCall::Compile(rustc) => *rustc,
        other => panic!("{other:?}"),
    }
}

/// Writes a file and creates its directories.
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    use std::io::Write as _;
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}

/// Returns the stamp of a file as the store sees it.
pub(super) fn store_stamp(path: &Path) -> Option<FileStamp> {
    Some(FileStamp::of(&fs::metadata(path).unwrap()))
}

/// Gives a file an old date of modification.
pub(super) fn age(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

/// Waits until the dates of these files would show a change.
pub(super) fn settle(paths: &[&Path]) {
    let is_settled = |path: &&Path| {
        let stamp = super::Stamp::of(path).unwrap().unwrap();
        stamp.is_settled(SystemTime::now())
    };
    while !paths.iter().all(is_settled) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns the sysroot of the toolchain that compiles these tests.
pub(super) fn real_sysroot() -> PathBuf {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

/// Returns the toolchain that compiles these tests.
pub(super) fn real_toolchain(world: &DiskWorld) -> Toolchain {
    let mut rustc = compile("src/lib.rs");
    rustc.driver = real_sysroot().join("bin/rustc");
    rustc.rustc = rustc.driver.clone();
    super::toolchain(&rustc, &call(Path::new("/")), world).unwrap()
}

/// Returns a toolchain for tests in which it does not matter.
pub(super) fn fake_toolchain() -> Toolchain {
    Toolchain {
        tree: Digest::empty(DigestFunction::Blake3),
        sysroot: "/toolchain".into(),
        driver: "/toolchain/bin/rustc".into(),
        called: "/toolchain/bin/rustc".into(),
        banner: "rustc".to_owned(),
        commit_hash: String::new(),
        host: "x86_64-unknown-linux-gnu".to_owned(),
    }
}
