//! A proc macro by which a real rustc does what a test says, in the middle of a compile.

use std::fs;

use crate::home::Home;
use crate::tree::Tree;
use crate::unit::Unit;

/// `ACT` says what: it is read by the macro alone, so that it does not enter any key.
const MACRO: &str = r##"use proc_macro::TokenStream;
#[proc_macro]
pub fn act(_: TokenStream) -> TokenStream {
    let act = std::env::var("ACT").unwrap_or_default();
    match act.split_once(' ').unwrap_or((&act, "")) {
        ("exit", code) => std::process::exit(code.parse().unwrap()),
        ("signal", name) => {
            let me = std::process::id().to_string();
            std::process::Command::new("kill").args([name, &me]).status().unwrap();
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        ("wait", dir) => {
            let dir = std::path::PathBuf::from(dir);
            eprintln!("{{\"$message_type\":\"artifact\",\"artifact\":\"early.rmeta\",\"emit\":\"metadata\"}}");
            let me = std::process::id().to_string();
            std::fs::write(dir.join(format!("waiting.{me}")), &me).unwrap();
            while !dir.join("go").exists() { std::thread::sleep(std::time::Duration::from_millis(2)); }
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
