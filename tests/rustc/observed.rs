//! Reads of a proc macro that the compiler does not report: KEY-23.
//!
//! Cargo builds every program with kache and without it. Both must print the same in every checkout and after every
//! change.

use std::fs;

use crate::home::Home;
use crate::project;
use crate::step::Step;
use crate::tree::Tree;

/// A program that prints the string that a macro makes of the directory `dir` of its package.
pub(crate) struct Asking<'h> {
    home: &'h Home,
    pub(crate) tree: Tree,
    variable: Option<(&'static str, &'static str)>,
}

impl<'h> Asking<'h> {
    /// `body` is the macro's code, which makes a `String`.
    pub(crate) fn new(home: &'h Home, name: &str, body: &str) -> Self {
        let tree = project::program(home, name, "fn main() { println!(\"{}\", pm::ask!()) }");
        tree.edit("Cargo.toml", "[workspace]", "[dependencies]\npm = { path = \"pm\" }\n[workspace]");
        tree.write(
            "pm/Cargo.toml",
            "[package]\nname = \"pm\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
        );
        let source = format!(
            "use proc_macro::TokenStream;\n\
             #[allow(unused)] use std::{{env, fs, path::PathBuf, process::Command}};\n\
             #[allow(unused)] fn found(dir: PathBuf) -> String {{ {body} }}\n\
             #[proc_macro] pub fn ask(_: TokenStream) -> TokenStream {{\n\
             format!(\"{{:?}}\", found(env::var_os(\"CARGO_MANIFEST_DIR\").unwrap().into())).parse().unwrap()\n}}\n"
        );
        tree.write("pm/src/lib.rs", source);
        Asking { home, tree, variable: None }
    }

    pub(crate) fn home(&self) -> &'h Home {
        self.home
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &'static str) {
        self.variable = Some((name, value));
    }

    pub(crate) fn step(&self, step: Step<'h>) -> Step<'h> {
        self.variable.iter().fold(step, |step, (name, value)| step.env(name, value))
    }

    /// Builds in an empty target directory, so that cargo does not decide what is fresh. Asserts what the program
    /// prints, and returns the call of the compile that ran the macro.
    #[track_caller]
    pub(crate) fn build(&self, expected: &str) -> crate::report::Call {
        let _ = fs::remove_dir_all(self.tree.join("target"));
        let built = self.step(self.home.cargo(&self.tree, &["build"])).ok();
        assert_eq!(self.tree.prints("target/debug/prog"), expected);
        built.calls.compiles().find(|call| call.crate_name == "prog").unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn misses(&self, expected: &str) {
        let call = self.build(expected);
        assert!(call.result == "miss" && call.not_stored.is_empty(), "{call:?}");
        let plain = self.step(self.home.plain_cargo(&self.tree, &["run", "-q", "--target-dir", "plain"]));
        assert_eq!(plain.ok_unwatched().stdout.trim_end(), expected, "without kache");
        let _ = fs::remove_dir_all(self.tree.join("plain"));
    }

    #[track_caller]
    pub(crate) fn hits(&self, expected: &str) {
        let call = self.build(expected);
        assert!(call.is_hit(), "{call:?}");
    }

    /// Asserts that the compile is not stored, because it also wrote this file.
    #[track_caller]
    pub(crate) fn writes_besides(&self, expected: &str, file: &str) {
        let call = self.build(expected);
        assert_eq!(call.result, "miss", "{call:?}");
        let why = &call.not_stored;
        assert!(why.contains("the compile also wrote") && why.contains(file), "{call:?}");
    }
}

#[test]
fn key_23_a_file_that_a_macro_reads_counts() {
    const BODY: &str = "fs::read_to_string(dir.join(\"data/secret.txt\")).unwrap()";
    let home = Home::new();
    let (a, b) = (Asking::new(&home, "a", BODY), Asking::new(&home, "b", BODY));
    a.tree.write("data/secret.txt", "first");
    b.tree.write("data/secret.txt", "second");
    a.misses("first");
    b.misses("second");
    a.hits("first");
    // The other checkout's result is used here, too (KEY-17).
    a.tree.write("data/secret.txt", "second");
    a.hits("second");
    a.tree.write("data/secret.txt", "third");
    a.misses("third");
}

#[test]
fn key_04_a_compile_that_could_not_be_observed_is_not_stored() {
    let home = Home::new();
    let a = Asking::new(&home, "a", "fs::read_to_string(dir.join(\"text\")).unwrap()");
    a.tree.write("text", "first");
    // Records cannot be created here, as on a disk that is full for a moment.
    let in_the_way = home.variable("KACHE_CACHE_DIR").join("observer");
    fs::write(&in_the_way, "").unwrap();
    for text in ["first", "second"] {
        a.tree.write("text", text);
        let call = a.build(text);
        assert!(call.result == "miss" && call.not_stored.contains("could not be observed"), "{call:?}");
    }
    fs::remove_file(in_the_way).unwrap();
    a.misses("second");
    a.hits("second");
}

#[test]
fn key_23_a_file_that_a_macro_looks_for_in_vain_counts() {
    const BODY: &str = "fs::read_to_string(dir.join(\"local.txt\")).unwrap_or(\"none\".to_string())";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.misses("none");
    a.hits("none");
    a.tree.write("local.txt", "local");
    a.misses("local");
    a.tree.remove("local.txt");
    a.hits("none");
}

#[test]
fn key_23_whether_a_directory_exists_counts() {
    const BODY: &str = "dir.join(\"migrations\").is_dir().to_string()";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.misses("false");
    a.tree.write("migrations/1.sql", "");
    a.misses("true");
    // The macro did not ask for the directory's entries.
    a.tree.write("migrations/2.sql", "");
    a.hits("true");
    fs::remove_dir_all(a.tree.join("migrations")).unwrap();
    a.hits("false");
}

#[test]
fn key_23_a_directory_that_a_macro_lists_counts() {
    const BODY: &str = "let mut names: Vec<_> = fs::read_dir(dir.join(\"migrations\")).unwrap() \
        .map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(); names.sort(); names.join(\" \")";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.tree.write("migrations/1.sql", "x");
    a.misses("1.sql");
    a.tree.write("migrations/2.sql", "x");
    a.misses("1.sql 2.sql");
    a.tree.write("migrations/2.sql", "another content");
    a.hits("1.sql 2.sql");
    a.tree.remove("migrations/2.sql");
    a.hits("1.sql");
}

#[test]
fn key_23_a_variable_that_a_macro_reads_counts() {
    const BODY: &str = "format!(\"{:?}\", env::var(\"DATABASE\").ok())";
    let home = Home::new();
    let mut a = Asking::new(&home, "a", BODY);
    a.misses("None");
    for (value, expected) in [("", "Some(\"\")"), ("x", "Some(\"x\")"), ("y", "Some(\"y\")")] {
        a.set("DATABASE", value);
        a.misses(expected);
        a.hits(expected);
    }
    a.set("OTHER", "the macro does not read it");
    a.hits("None");
}

#[test]
fn key_23_a_program_that_a_macro_starts_is_observed() {
    const BODY: &str = "let out = Command::new(\"/bin/sh\").args([\"-c\", \"cat data.txt; echo $(cat more.txt)\"]) \
        .current_dir(dir).output().unwrap(); String::from_utf8(out.stdout).unwrap().trim().to_string()";
    let home = Home::new();
    let (a, b) = (Asking::new(&home, "a", BODY), Asking::new(&home, "b", BODY));
    a.tree.write("data.txt", "1").write("more.txt", "2");
    b.tree.write("data.txt", "1").write("more.txt", "3");
    a.misses("12");
    b.misses("13");
    a.hits("12");
    b.hits("13");
    // A shell knows its directory's name and may have used it, so a result of one checkout is not used in another
    // (KEY-07).
    b.tree.write("more.txt", "2");
    b.misses("12");
    b.hits("12");
}

#[test]
fn key_23_a_program_that_a_macro_starts_counts_itself() {
    const BODY: &str = "let out = Command::new(dir.join(\"tool\")).output().unwrap(); \
        String::from_utf8(out.stdout).unwrap().trim().to_string()";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    let tool = |message: &str| {
        // A script would count as read. A compiled program counts because it was started.
        a.tree.write(
            "tool.c",
            format!("#include <stdio.h>\nint main(void) {{ puts(\"{message}\"); return 0; }}\n"),
        );
        let cc = home.command("cc").args(["-o", "tool", "tool.c"]).current_dir(a.tree.path()).status();
        assert!(cc.unwrap().success());
        a.tree.remove("tool.c");
    };
    tool("one");
    a.misses("one");
    tool("two");
    a.misses("two");
}

#[test]
fn key_23_a_compile_whose_macro_leaves_a_file_behind_is_not_stored() {
    const BODY: &str = "fs::write(dir.join(\"log.txt\"), \"ran\").unwrap(); \
        let own = env::temp_dir().join(format!(\"kache-test-{}\", std::process::id())); \
        fs::write(&own, \"x\").unwrap(); let read = fs::read_to_string(&own).unwrap(); \
        fs::remove_file(own).unwrap(); read";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    for _ in 0..2 {
        a.writes_besides("x", "log.txt");
        a.tree.remove("log.txt");
    }
    // A file that is removed before the compile ends does not matter.
    let b = Asking::new(
        &home,
        "b",
        &BODY.replace("; let own", "; fs::remove_file(dir.join(\"log.txt\")).unwrap(); let own"),
    );
    b.misses("x");
    b.hits("x");
}

#[test]
fn key_05_a_file_that_changes_while_a_macro_reads_it_prevents_storing() {
    const BODY: &str = "let text = fs::read_to_string(dir.join(\"data.txt\")).unwrap(); \
        fs::write(dir.join(\"reading\"), \"\").unwrap(); \
        while dir.join(\"reading\").exists() { std::thread::sleep(std::time::Duration::from_millis(5)) } text";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.tree.write("data.txt", "before");
    let child = a.home.cargo(&a.tree, &["build"]).spawn();
    crate::home::eventually("the macro reads", || a.tree.join("reading").exists());
    a.tree.write("data.txt", "after").remove("reading");
    assert!(child.wait_with_output().unwrap().status.success());
    let calls = home.new_calls();
    let call = calls.iter().find(|call| call.crate_name == "prog").unwrap();
    assert!(call.not_stored.contains("data.txt` changed"), "{call:?}");
}

#[test]
fn key_17_a_result_is_shared_if_the_files_below_a_path_variable_are_equal() {
    // The variable names a path in the checkout, which is different in each.
    const BODY: &str =
        "fs::read_to_string(PathBuf::from(env::var(\"DATA\").unwrap()).join(\"data.txt\")).unwrap()";
    let home = Home::new();
    for (index, name) in ["a", "another which is longer"].into_iter().enumerate() {
        let asking = Asking::new(&home, name, BODY);
        asking.tree.write("data.txt", "data");
        asking.tree.write(".cargo/config.toml", "[env]\nDATA = { value = \"\", relative = true }\n");
        if index == 0 { asking.misses("data") } else { asking.hits("data") }
    }
}

#[test]
fn key_14_a_library_that_only_the_linker_finds_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    let library = |directory: &str, value: u32| {
        tree.write("native.c", format!("int native(void) {{ return {value}; }}\n"));
        fs::create_dir_all(tree.join(directory)).unwrap();
        for (program, args) in [
            ("cc", &["-c", "-o", "native.o", "native.c"][..]),
            ("ar", &["crs", &format!("{directory}/libnative.a"), "native.o"]),
        ] {
            assert!(home.command(program).args(args).current_dir(tree.path()).status().unwrap().success());
        }
        tree.remove("native.c").remove("native.o");
    };
    tree.write(
        "src/links.rs",
        "#[link(name = \"native\", kind = \"dylib\")] extern \"C\" { fn native() -> i32; }\n\
         fn main() { println!(\"{}\", unsafe { native() }) }",
    );
    library("one", 1);
    fs::create_dir(tree.join("zero")).unwrap();
    // The linker gets the directories from a variable that kache does not interpret.
    let paths = format!("{}:{}", tree.join("zero").display(), tree.join("one").display());
    let unit = crate::unit::Unit::bin(&home, &tree, "links").env("LIBRARY_PATH", &paths);
    assert_eq!(unit.misses(), "1");
    assert_eq!(unit.hits(), "1");
    library("one", 2);
    assert_eq!(unit.misses(), "2");
    // A library in a directory that is searched earlier.
    library("zero", 3);
    assert_eq!(unit.misses(), "3");
    tree.remove("zero/libnative.a");
    assert_eq!(unit.hits(), "2");
}
