//! Generates the table of levels from a text file, which is easier to edit.

use std::fmt::Write;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=levels.txt");
    let text = std::fs::read_to_string("levels.txt").expect("levels.txt lies beside build.rs");
    let mut code = String::from("pub const LEVELS: &[(&str, u8)] = &[\n");
    for line in text.lines() {
        let (name, weight) = line.split_once(' ').expect("a line is a name and a weight");
        writeln!(code, "    (\"{name}\", {weight}),").expect("a string takes everything");
    }
    code.push_str("];\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo says where");
    std::fs::write(Path::new(&out).join("levels.rs"), code).expect("OUT_DIR is writable");
}
