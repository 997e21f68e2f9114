//! The entry point of `kache`: decides by argv whether this is a compiler call or a command.
//!
//! The decision is pure and takes microseconds. A compiler that the daemon supports is wrapped.
//! Any other compiler replaces this process, and so does the engine for every other command line;
//! both keep the arguments, the environment and the terminal.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::compile;
use crate::engine::{EngineError, engine_path};
use crate::shim;

/// The compilers that are recognised without a directory in front. No command of kache has one
/// of these names.
const COMPILERS: &[&str] = &["rustc", "clippy-driver", "cc", "c++", "gcc", "g++", "clang", "clang++"];

/// The exit code of a shell for a program that cannot be executed.
const EXIT_CANNOT_EXECUTE: u8 = 126;

/// The exit code of every other failure.
const EXIT_FAILURE: u8 = 1;

/// The program that a command line is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Dispatch<'a> {
    /// A compiler with its arguments.
    Compiler(&'a OsStr, &'a [OsString]),
    /// The engine, with the whole command line.
    Engine(&'a [OsString]),
}

/// Tells a compiler call from a command of kache; `args` do not include this program's name.
///
/// Cargo passes the compiler as it would call it, by a bare name or by a path, and no command of
/// kache has a slash in its name.
fn dispatch(args: &[OsString]) -> Dispatch<'_> {
    match args.split_first() {
        Some((first, rest)) if is_program(first) => Dispatch::Compiler(first, rest),
        _ => Dispatch::Engine(args),
    }
}

fn is_program(first: &OsStr) -> bool {
    first.as_bytes().contains(&b'/') || COMPILERS.iter().any(|name| first == Path::new(name))
}

/// Runs `kache`. It returns only when a compiler has ended or a program could not be executed.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let own_name = words.next();
    let args: Vec<OsString> = words.collect();
    let is_supported = |name: &OsStr| compile::is_supported(name, &[]);
    if let Some(program) = shim::wrapped_compiler(own_name.as_deref(), is_supported) {
        return compile::wrap(&program, &args);
    }
    match dispatch(&args) {
        Dispatch::Compiler(program, args) if compile::is_supported(program, args) => {
            compile::wrap(program, args)
        }
        Dispatch::Compiler(program, args) => {
            let source = Command::new(program).args(args).exec();
            cannot_execute(program, &source)
        }
        Dispatch::Engine(args) => {
            let error = exec_engine(args);
            print_error(&error.to_string());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Prints that a compiler could not be executed, and returns the exit code for it.
pub(crate) fn cannot_execute(program: &OsStr, source: &io::Error) -> ExitCode {
    print_error(&format!("failed to execute `{}`: {source}", program.display()));
    ExitCode::from(EXIT_CANNOT_EXECUTE)
}

/// Replaces this process with the engine; returns only if that fails.
fn exec_engine(args: &[OsString]) -> EngineError {
    match engine_path() {
        Ok(path) => {
            let source = Command::new(&path).args(args).exec();
            EngineError::Exec { path, source }
        }
        Err(error) => error,
    }
}

/// Prints to standard error. Unlike `eprintln!` it does not panic where that is closed.
fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "kache: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_compiler(args: &[&str]) -> bool {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        matches!(dispatch(&args), Dispatch::Compiler(..))
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
