//! A proc macro by which a real rustc does what a test says, in the middle of a compile.

use std::fs;

use crate::home::Home;
use crate::tree::Tree;
use crate::unit::Unit;

/// `ACT` says what. The macro walks through all variables for it, and waits by a program without
/// any: nobody can observe either, so nothing of it enters a key (KEY-23).
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
        _ => {}
    }
    TokenStream::new()
}
"##;

/// A program that expands the macro, and prints `acted` if it was made.
pub(crate) fn acting<'a>(home: &'a Home, tree: &'a Tree) -> Unit<'a> {
    tree.write("src/pm.rs", MACRO);
    tree.write("src/acts.rs", "pm::act!(); fn main() { println!(\"acted\") }");
    Unit::proc_macro(home, tree, "pm").kache().ok();
    Unit::bin(home, tree, "acts").uses("pm", "libpm-01234567.so")
}

/// The compilers that wait in this tree or have waited in it.
pub(crate) fn waiting(tree: &Tree) -> Vec<i32> {
    let names = fs::read_dir(tree.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("waiting.")?.parse().ok()).collect()
}
