//! A proc macro that makes a real rustc do what a test asks for in the middle of a compile: exit, die of a signal,
//! or wait.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use crate::home::{Home, eventually};
use crate::tree::Tree;
use crate::unit::Unit;

/// The macro's source. The variable `ACT` says what to do. The observer sees it all (KEY-23): the variable counts
/// by its value, and a compile that waits for a file leaves a file behind, so it is not stored. A compile that
/// waits at a socket reads and leaves no file, so it is stored.
const MACRO: &str = r##"use proc_macro::TokenStream;
#[proc_macro]
pub fn act(_: TokenStream) -> TokenStream {
    let act = std::env::vars().find(|(name, _)| name == "ACT").map(|(_, value)| value).unwrap_or_default();
    match act.split_once(' ').unwrap_or((&act, "")) {
        ("exit", code) => std::process::exit(code.parse().unwrap()),
        ("signal", name) => {
            let me = std::process::id().to_string();
            std::process::Command::new("kill").args([name, &me]).status().unwrap();
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        ("wait", dir) => {
            eprintln!("{{\"$message_type\":\"artifact\",\"artifact\":\"early.rmeta\",\"emit\":\"metadata\"}}");
            let me = std::process::id().to_string();
            let wait = "echo > $0/waiting.$1; while kill -0 $1 && ! [ -e $0/go ]; do sleep 0.005; done";
            let mut shell = std::process::Command::new("/bin/sh");
            shell.env_clear().args(["-c", wait, dir, &me]).stdin(std::process::Stdio::null());
            shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
        }
        ("meet", socket) => {
            use std::io::{Read, Write};
            if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) {
                writeln!(stream, "{}", std::process::id()).unwrap();
                let _ = stream.read(&mut [0]);
            }
        }
        _ => {}
    }
    TokenStream::new()
}
"##;

/// A program that expands the macro. It prints `acted` if it was built.
pub(crate) fn acting<'a>(home: &'a Home, tree: &'a Tree) -> Unit<'a> {
    tree.write("src/pm.rs", MACRO);
    tree.write("src/acts.rs", "pm::act!(); fn main() { println!(\"acted\") }");
    Unit::proc_macro(home, tree, "pm").kache().ok();
    Unit::bin(home, tree, "acts").uses("pm", "libpm-01234567.so")
}

/// A socket at which compilers with `ACT=meet …` wait.
pub(crate) struct Meeting {
    path: PathBuf,
    listener: UnixListener,
}

impl Meeting {
    /// Listens at this path.
    pub(crate) fn at(path: PathBuf) -> Meeting {
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Meeting { path, listener }
    }

    /// The value of `ACT` for compilers that shall wait here.
    pub(crate) fn act(&self) -> String {
        format!("meet {}", self.path.display())
    }

    /// Whether no further compiler waits here.
    pub(crate) fn is_over(&self) -> bool {
        self.listener.accept().is_err()
    }

    /// Waits for the next compiler. Returns its process id, and the connection until whose end it waits.
    pub(crate) fn meet(&self, who: &str) -> (i32, UnixStream) {
        let mut met = None;
        eventually(who, || {
            met = self.listener.accept().ok();
            met.is_some()
        });
        let (stream, _) = met.expect("`eventually` has waited for it");
        stream.set_nonblocking(false).unwrap();
        let mut name = String::new();
        BufReader::new(&stream).read_line(&mut name).unwrap();
        (name.trim().parse().unwrap(), stream)
    }
}

/// The process ids of compilers that wait or have waited in this tree.
pub(crate) fn waiting(tree: &Tree) -> Vec<i32> {
    let names = fs::read_dir(tree.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("waiting.")?.parse().ok()).collect()
}
