//! What `kache` was called for: to stand before a compiler, or to do something itself.
//!
//! Deciding is pure and takes microseconds. A compiler that the daemon knows is wrapped; any
//! other one replaces this process, with its arguments, environment, terminal and exit code.
//! Everything else is the engine's.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::compile;
use crate::engine::{EngineError, engine_path};
use crate::shim;

/// The compilers that are known without a directory in front. No command of ours has any
/// of these names.
const COMPILERS: &[&str] = &["rustc", "clippy-driver", "cc", "c++", "gcc", "g++", "clang", "clang++"];

/// What a shell returns for a program that cannot be executed.
const EXIT_CANNOT_EXECUTE: u8 = 126;

/// Any other failure.
const EXIT_FAILURE: u8 = 1;

/// What a call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// A compiler with its arguments.
    Compiler(&'a OsStr, &'a [OsString]),
    /// A command of our own.
    Engine(&'a [OsString]),
}

/// What these arguments (without our own name) are. Cargo gives the compiler as it would
/// call it: by a bare name, or by a path, and our commands hold no slash.
pub fn recognise(args: &[OsString]) -> Call<'_> {
    match args.split_first() {
        Some((first, rest)) if is_program(first) => Call::Compiler(first, rest),
        _ => Call::Engine(args),
    }
}

fn is_program(first: &OsStr) -> bool {
    first.as_bytes().contains(&b'/') || COMPILERS.iter().any(|name| first == Path::new(name))
}

/// The whole of `kache`. It only returns when a compiler has ended, or something could not be
/// executed.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let own_name = words.next();
    let args: Vec<OsString> = words.collect();
    if let Some(program) = shim::meant(own_name.as_deref(), |name| compile::is_for_the_daemon(name, &[])) {
        return compile::wrap(&program, &args);
    }
    match recognise(&args) {
        Call::Compiler(program, args) if compile::is_for_the_daemon(program, args) => {
            compile::wrap(program, args)
        }
        Call::Compiler(program, args) => {
            let source = Command::new(program).args(args).exec();
            cannot_execute(program, &source)
        }
        Call::Engine(args) => {
            let error = run_engine(args);
            complain(&error.to_string());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// What a compiler's caller hears when there is no such compiler.
pub(crate) fn cannot_execute(program: &OsStr, source: &io::Error) -> ExitCode {
    complain(&format!("failed to execute `{}`: {source}", program.display()));
    ExitCode::from(EXIT_CANNOT_EXECUTE)
}

fn run_engine(args: &[OsString]) -> EngineError {
    match engine_path() {
        Ok(path) => {
            let source = Command::new(&path).args(args).exec();
            EngineError::Exec { path, source }
        }
        Err(error) => error,
    }
}

/// A closed standard error is no reason to panic.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "kache: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_compiler(args: &[&str]) -> bool {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        matches!(recognise(&args), Call::Compiler(..))
    }

    #[test]
    fn compilers_are_told_from_commands() {
        for args in [
            &["rustc", "-vV"][..],
            &["/usr/bin/rustc"],
            &["./my-compiler", "-c", "x.c"],
            &["clippy-driver", "rustc"],
            &["cc", "-c", "x.c"],
            &["toolchain/bin/x86_64-linux-gnu-gcc-12"],
        ] {
            assert!(is_compiler(args), "{args:?}");
        }
        for args in
            [&[][..], &["daemon"], &["config", "list"], &["--version"], &["--help"], &["rustcx"], &[""]]
        {
            assert!(!is_compiler(args), "{args:?}");
        }
    }
}
