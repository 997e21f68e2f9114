//! A compiler that counts how often it is started, without the help of kache.
//!
//! It is a small program that notes the crate's name in the caller's home directory and then becomes the real rustc. A note
//! is an empty file that is not opened, because kache stores no result of a compile that opens another file for writing.
//! The program looks for `$HOME` by itself, because what a compile asks the C library for counts as an input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kache_cas::DigestFunction;

const SOURCE: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *home, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/rustc-calls/%s.%d", home, name, getpid());
    if (mknod(path, S_IFREG | 0644, 0)) _exit(99);
}

int main(int count, char **arguments, char **environment) {
    const char *home = "";
    for (char **entry = environment; *entry; entry++)
        if (!strncmp(*entry, "HOME=", 5)) home = *entry + 5;
    for (int i = 1; i + 1 < count; i++)
        if (!strcmp(arguments[i], "--crate-name")) note(home, arguments[i + 1]);
    arguments[0] = RUSTC;
    return execv(RUSTC, arguments);
}
"#;

/// The directory of notes in a home directory.
const CALLS: &str = "rustc-calls";

/// The compiler of all machines, which notes its calls in this home directory from now on.
pub(crate) fn rustc(home: &Path) -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    fs::create_dir_all(home.join(CALLS)).unwrap();
    PROGRAM.get_or_init(compile)
}

/// Compiles the program once for all runs of the tests.
fn compile() -> PathBuf {
    let real = format!("-DRUSTC=\"{}\"", crate::home::rustc().display());
    let name = DigestFunction::Sha256.hash(format!("{real}{SOURCE}").as_bytes()).to_hex();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).join("rustc");
    if !program.exists() {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (source, made) = (dir.path().join("rustc.c"), dir.path().join("rustc"));
        fs::write(&source, SOURCE).unwrap();
        let status = Command::new("cc").arg("-o").arg(&made).arg(&source).arg(real).status();
        assert!(status.unwrap().success());
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::rename(made, &program).unwrap();
    }
    program
}

/// The names of the crates for which the compiler was started with this home directory, sorted. Cargo's own questions
/// have no crate.
pub(crate) fn crates(home: &Path) -> Vec<String> {
    let name = |call: fs::DirEntry| call.file_name().to_str().unwrap().rsplit_once('.').unwrap().0.to_owned();
    let calls = fs::read_dir(home.join(CALLS)).unwrap().flatten();
    let mut names: Vec<String> = calls.map(name).filter(|name| name != "___").collect();
    names.sort_unstable();
    names
}
