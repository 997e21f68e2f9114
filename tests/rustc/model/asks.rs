//! Crates that hold what a macro found out, each in its own way.
//!
//! All of them use one crate of macros. Cargo knows of nothing that these read, so that a
//! crate is only compiled again when its own source has another date.

use super::class::{Class, Classes};
use super::files::Files;
use super::part::Part;
use super::sources::{Sources, manifest};

/// A crate for each of these classes.
const ASKING: &[(Class, &str)] = &[
    (Class::AskedAbove, "above"),
    (Class::Search, "search"),
    (Class::Shell, "shell"),
    (Class::Lists, "lists"),
    (Class::Opens, "opens"),
    (Class::Links, "links"),
    (Class::Proc, "proc"),
    (Class::Variables, "variables"),
    (Class::Raw, "raw"),
    (Class::Names, "names"),
];

/// The crates that ask something, where these classes are varied.
pub(super) fn crates(classes: &Classes) -> Vec<String> {
    let asking = ASKING.iter().filter(|(class, _)| classes.has(*class));
    asking.map(|(_, name)| format!("ask_{name}")).collect()
}

/// The crate of macros, if any of the others needs it.
pub(super) fn macros(classes: &Classes) -> Option<String> {
    (!crates(classes).is_empty()).then(|| "asks".to_owned())
}

/// What the macros do.
const MACROS: &str = r##"use proc_macro::TokenStream;
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{:?}", error.kind()))
}

fn shell(dir: &Path, script: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", script]).current_dir(dir).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn upwards(dir: &Path, name: &str, until: Option<&str>) -> String {
    for above in dir.ancestors() {
        if above.join(name).exists() {
            return read(above.join(name));
        }
        if until.is_some_and(|until| above.join(until).exists()) {
            return "ended".to_owned();
        }
    }
    "none".to_owned()
}

fn list(dir: &Path) -> String {
    let Ok(entries) = fs::read_dir(dir) else { return "missing".to_owned() };
    let mut entries: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let kind = entry.file_type().unwrap();
            format!("{:?} {} {}", entry.file_name(), kind.is_dir(), kind.is_symlink())
        })
        .collect();
    entries.sort();
    entries.join(", ")
}

fn open(path: PathBuf) -> String {
    let mut text = String::new();
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(mut file) => file.read_to_string(&mut text).map(|_| text).unwrap(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

fn links(dir: &Path) -> String {
    let to = |name: &str| fs::read_link(dir.join(name)).unwrap();
    let (file, directory) = (read(dir.join("file link")), list(&dir.join("directory link")));
    format!("{file} {:?} {directory} {:?} {}", to("file link"), to("directory link"),
        read(dir.join("directory link/text.txt")))
}

fn variables() -> String {
    let mut found: Vec<_> = std::env::vars().filter(|(name, _)| name == "MODEL_ANY").collect();
    found.sort();
    format!("{found:?}")
}

#[cfg(target_arch = "x86_64")]
fn call(number: usize, one: usize, two: usize, three: usize) -> isize {
    let result: isize;
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") one, in("rsi") two,
            in("rdx") three, out("rcx") _, out("r11") _);
    }
    result
}

#[cfg(target_arch = "x86_64")]
fn raw(path: PathBuf) -> String {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let file = call(2, path.as_ptr() as usize, 0, 0);
    if file < 0 {
        return format!("error {file}");
    }
    let mut bytes = [0_u8; 100];
    let count = call(0, file as usize, bytes.as_mut_ptr() as usize, bytes.len());
    call(3, file as usize, 0, 0);
    String::from_utf8_lossy(&bytes[..count as usize]).into_owned()
}

#[cfg(not(target_arch = "x86_64"))]
fn raw(path: PathBuf) -> String {
    read(path)
}

fn found(kind: &str, dir: &Path) -> String {
    match kind {
        "above" => read(dir.join("../../asked.txt")),
        "search" => format!("{} {}", upwards(dir, "model marker.txt", None), upwards(dir, "setting.txt", Some(".git"))),
        "shell" => shell(dir, "cat data.txt; test -e data.txt && echo there; echo \"$MODEL_SHELL\""),
        "lists" => format!("{} {}", list(&dir.join("listed")), shell(dir, "find searched | sort; grep -r . searched | sort")),
        "opens" => open(dir.join("data.db")),
        "links" => links(dir),
        "proc" => read("/proc/self/cwd/process.txt"),
        "variables" => variables(),
        "raw" => raw(dir.join("raw.txt")),
        "names" => dir.ancestors().nth(3).unwrap().file_name().unwrap().to_str().unwrap().to_owned(),
        other => panic!("nobody knows how to ask `{other}`"),
    }
}

#[proc_macro]
pub fn ask(kind: TokenStream) -> TokenStream {
    let dir = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    format!("{:?}", found(&kind.to_string(), &dir)).parse().unwrap()
}
"##;

/// Adds the crates and what they read.
pub(super) fn add(sources: &Sources, files: &mut Files) {
    let classes = &sources.classes;
    if let Some(name) = macros(classes) {
        files
            .text(&format!("{name}/Cargo.toml"), manifest(&name, "[lib]\nproc-macro = true\ntest = false\n"));
        files.text(&format!("{name}/src/lib.rs"), MACROS);
    }
    for (_, kind) in ASKING.iter().filter(|(class, _)| classes.has(*class)) {
        let name = format!("ask_{kind}");
        // Harnesses of empty tests would be most of what is linked.
        let on_macros = "[lib]\ntest = false\n[dependencies]\nasks = { path = \"../asks\" }\n";
        files.text(&format!("{name}/Cargo.toml"), manifest(&name, on_macros));
        let source = format!("pub const FOUND: &str = asks::ask!({kind});\n");
        files.text(&format!("{name}/src/lib.rs"), source);
    }
    for (class, add) in [
        (Class::AskedAbove, above as fn(&Sources, &mut Files)),
        (Class::Search, search),
        (Class::Shell, shell),
        (Class::Lists, lists),
        (Class::Opens, opens),
        (Class::Links, links),
        (Class::Proc, process),
        (Class::Raw, raw),
    ] {
        if classes.has(class) {
            add(sources, files);
        }
    }
}

/// A file with the number of its state, which is missing in the last one.
fn text(sources: &Sources, files: &mut Files, part: Part, path: &str) {
    let number = sources.number(part);
    if number < 3 {
        files.text(path, format!("{part:?} {number}"));
    }
}

fn above(sources: &Sources, files: &mut Files) {
    text(sources, files, Part::AskedAbove, "../asked.txt");
}

fn search(sources: &Sources, files: &mut Files) {
    let places = ["ask_search/", "", "../", "../../"];
    for (part, name) in [(Part::Marker, "model marker.txt"), (Part::Setting, "setting.txt")] {
        let number = sources.number(part);
        // In state 0 there is none at all.
        if let Some(place) = number.checked_sub(1).map(|index| places[index]) {
            files.text(&format!("{place}{name}"), format!("{part:?} {number}"));
        }
    }
}

fn shell(sources: &Sources, files: &mut Files) {
    text(sources, files, Part::ShellFile, "ask_shell/data.txt");
}

/// A directory with entries of several kinds, which is missing in the last state.
fn directory(sources: &Sources, files: &mut Files, part: Part, path: &str) {
    let number = sources.number(part);
    if number < 4 {
        files.text(&format!("{path}/always.txt"), "always");
    }
    match number {
        0 => files.text(&format!("{path}/entry"), "an entry"),
        1 => files.text(&format!("{path}/entry/inside"), "an entry"),
        2 => files.link(&format!("{path}/entry"), "always.txt"),
        _ => {}
    }
}

fn lists(sources: &Sources, files: &mut Files) {
    directory(sources, files, Part::Listed, "ask_lists/listed");
    directory(sources, files, Part::Searched, "ask_lists/searched");
}

fn opens(sources: &Sources, files: &mut Files) {
    text(sources, files, Part::Opened, "ask_opens/data.db");
}

fn links(sources: &Sources, files: &mut Files) {
    let to = |part: Part, targets: &[&'static str]| targets[sources.number(part)];
    let file = to(Part::LinkedFile, &["one.txt", "directory one/text.txt", "nowhere", "../../readme.txt"]);
    files.link("ask_links/file link", file);
    let directory = to(Part::LinkedDirectory, &["directory one", "../ask_links/directory two", "nowhere"]);
    files.link("ask_links/directory link", directory);
    let number = sources.number(Part::LinkTarget);
    files.text("ask_links/one.txt", format!("one {number}"));
    files.text("ask_links/directory one/text.txt", format!("in one {number}"));
    files.text("ask_links/directory two/text.txt", format!("in two {number}"));
    files.text("../readme.txt", format!("readme {number}"));
}

fn process(sources: &Sources, files: &mut Files) {
    text(sources, files, Part::OfProcess, "process.txt");
}

fn raw(sources: &Sources, files: &mut Files) {
    text(sources, files, Part::Raw, "ask_raw/raw.txt");
}
