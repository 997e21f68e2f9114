//! Reads of programs that no access to one file or one variable shows (KEY-23, KEY-15): a whole environment, the
//! name of a directory, the files of a linker's wrapper.
//!
//! As in `observed`, everything is built with kache and without it, and the programs must print the same.

use std::fs;
use std::process::Command;

use crate::home::Home;
use crate::observed::Asking;
use crate::tree::Tree;
use crate::unit::Unit;

/// The body of a macro that runs a script in the package's directory and returns its output.
fn shell(script: &str) -> String {
    format!(
        "let out = Command::new(\"sh\").args([\"-c\", {script:?}]).current_dir(dir).output().unwrap(); \
         String::from_utf8(out.stdout).unwrap().trim().to_string()"
    )
}

#[test]
fn key_23_a_shell_imports_all_of_its_environment() {
    let home = Home::new();
    let mut a = Asking::new(&home, "a", &shell("echo mode=$MODE ${LEVEL-none}"));
    a.misses("mode= none");
    a.hits("mode= none");
    for (name, value, expected) in
        [("MODE", "x", "mode=x none"), ("MODE", "y", "mode=y none"), ("LEVEL", "", "mode=")]
    {
        a.set(name, value);
        a.misses(expected);
        a.hits(expected);
    }
    a.set("TERM", "differs from call to call");
    a.hits("mode= none");
}

#[test]
fn key_23_variables_that_a_program_finds_by_walking_through_its_environment_count() {
    let home = Home::new();
    let mut a = Asking::new(&home, "a", &shell("perl -e 'print join \",\", grep { /^MY_/ } sort keys %ENV'"));
    a.misses("");
    a.set("MY_OWN", "1");
    a.misses("MY_OWN");
    a.set("MY_OTHER", "1");
    a.misses("MY_OTHER");
    a.hits("MY_OTHER");
}

#[test]
fn key_07_the_name_of_a_shells_directory_binds_to_it() {
    let home = Home::new();
    for (name, script) in
        [("plain", "echo $PWD"), ("hashed", "echo $PWD | cksum"), ("cut", "basename $(pwd)")]
    {
        let place = |checkout: &str| Asking::new(&home, &format!("{name}/{checkout}"), &shell(script));
        let (a, b) = (place("a"), place("b"));
        let expected = |asking: &Asking<'_>| {
            let output = Command::new("sh").args(["-c", script]).current_dir(asking.tree.path()).output();
            String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
        };
        a.misses(&expected(&a));
        b.misses(&expected(&b));
        a.hits(&expected(&a));
        b.hits(&expected(&b));
    }
}

/// The last byte of the build id that a linker was told to write.
fn build_id(unit: &Unit<'_>) -> Option<u8> {
    const BEGINNING: [u8; 8] = [0xaa, 0x55, 0xaa, 0x55, 0xaa, 0x55, 0xaa, 0x55];
    let program = fs::read(unit.output("")).unwrap();
    let at = program.windows(BEGINNING.len()).position(|part| part == BEGINNING)?;
    program.get(at + BEGINNING.len()).copied()
}

/// Compiles a linker wrapper to this path. It reads the build id from a file and from a variable, which it finds by
/// walking through its environment.
fn compiled_wrapper(tree: &Tree, path: &str) {
    let source = r#"#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **given, char **env) {
  static char id[100]; char *all[9000] = { "/usr/bin/cc" }; int last = 0;
  FILE *file = fopen("id.txt", "r");
  if (file) { if (fscanf(file, "%d", &last) != 1) return 1; fclose(file); }
  for (; *env; env++) if (!strncmp(*env, "MY_ID=", 6)) last = (*env)[6] - '0';
  for (int i = 1; i < n; i++) all[i] = given[i];
  snprintf(id, sizeof id, "-Wl,--build-id=0xaa55aa55aa55aa550%d", last);
  all[n] = id; all[n + 1] = 0;
  return execv(all[0], all);
}
"#;
    tree.write(&format!("{path}.c"), source);
    let cc = Command::new("cc").arg(tree.join(&format!("{path}.c"))).arg("-o").arg(tree.join(path)).status();
    assert!(cc.unwrap().success());
}

/// Asserts that the file and the variable that a wrapper reads count, whatever the wrapper is called.
fn check_wrapper(home: &Home, tree: &Tree, linker: &str) {
    tree.write("src/wrapped.rs", "fn main() { println!(\"wrapped\") }");
    let path = format!("{}:/usr/bin:/bin", tree.join("bin").display());
    let unit = Unit::bin(home, tree, "wrapped").with(&["-C", &format!("linker={linker}")]).env("PATH", &path);
    for last in [1, 2] {
        tree.write("id.txt", last.to_string());
        unit.misses();
        assert_eq!(build_id(&unit), Some(last));
        unit.hits();
        assert_eq!(build_id(&unit), Some(last));
    }
    let other = unit.clone().env("MY_ID", "3");
    other.misses();
    assert_eq!(build_id(&other), Some(3));
    other.hits();
    assert_eq!(build_id(&other), Some(3));
    unit.hits();
    assert_eq!(build_id(&unit), Some(2));
    tree.remove("id.txt");
    unit.misses();
    assert_eq!(build_id(&unit), Some(0));
}

#[test]
fn key_15_files_and_variables_that_a_linker_script_wrapper_reads_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.script(
        "wrapper.sh",
        "id=$(cat id.txt 2>/dev/null || echo 0)\nexec /usr/bin/cc \"$@\" -Wl,--build-id=0xaa55aa55aa55aa550${MY_ID:-$id}",
    );
    check_wrapper(&home, &tree, "./wrapper.sh");
}

#[test]
fn key_15_files_and_variables_that_a_linker_called_cc_reads_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("bin/keep", "");
    compiled_wrapper(&tree, "bin/cc");
    check_wrapper(&home, &tree, "cc");
}

#[test]
fn key_15_variables_that_a_linker_reads_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/emulated.rs", "fn main() {}");
    let unit = Unit::bin(&home, &tree, "emulated").with(&["-C", "link-arg=-fuse-ld=bfd"]);
    unit.misses();
    unit.hits();
    // GNU ld reads this variable, which is not part of the query.
    let other = unit.clone().env("LDEMULATION", "elf_x86_64");
    other.misses();
    other.hits();
    unit.hits();
}

#[test]
fn key_23_files_count_in_tmpfs_and_by_paths_through_proc() {
    let home = Home::new();
    // A tmpfs below `/dev` is an ordinary directory.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    const BODY: &str = "fs::read_to_string(dir.join(\"data.txt\")).unwrap_or(\"none\".to_string())";
    let a = Asking::new(&home, memory.path().join("a").to_str().unwrap(), BODY);
    a.misses("none");
    for text in ["first", "second"] {
        a.tree.write("data.txt", text);
        a.misses(text);
        a.hits(text);
    }
    a.tree.remove("data.txt");
    a.hits("none");
    // These paths lead to another file in each process.
    for (name, place) in [("cwd", "/proc/self/cwd/data.txt"), ("root", "/proc/thread-self/root{}/data.txt")] {
        let body = format!(
            "let place = {place:?}.replace(\"{{}}\", dir.to_str().unwrap()); \
             fs::read_to_string(place).unwrap_or(\"none\".to_string())"
        );
        let b = Asking::new(&home, name, &body);
        b.misses("none");
        b.tree.write("data.txt", "first");
        b.misses("first");
        b.hits("first");
        b.tree.write("data.txt", "second");
        b.misses("second");
        b.tree.remove("data.txt");
        b.hits("none");
    }
}

#[test]
fn key_23_links_count_in_tmpfs_and_by_paths_through_proc() {
    let home = Home::new();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let in_memory = memory.path().join("a").to_str().unwrap().to_owned();
    for (place, start) in [(&*in_memory, ""), ("on_disk", "/proc/self/cwd/")] {
        let body = format!(
            "let link = if {start:?}.is_empty() {{ dir.join(\"link\") }} else {{ std::path::Path::new({start:?}).join(\"link\") }}; \
             format!(\"{{:?}} {{}}\", fs::read_link(&link).unwrap(), fs::read_to_string(link.join(\"x.txt\")).unwrap())"
        );
        let a = Asking::new(&home, place, &body);
        for name in ["one", "two"] {
            a.tree.write(&format!("{name}/x.txt"), name);
        }
        let link = a.tree.join("link");
        let lead_to = |name: &str| {
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(name, &link).unwrap();
        };
        lead_to("one");
        a.misses("\"one\" one");
        lead_to("two");
        a.misses("\"two\" two");
        lead_to("one");
        a.hits("\"one\" one");
        // The link leads to the same file by another text.
        lead_to("../");
        lead_to("./one");
        a.misses("\"./one\" one");
    }
}

#[test]
fn key_23_a_directory_that_is_listed_by_its_descriptor_counts() {
    let home = Home::new();
    let script = "find migrations -name '*.sql' | sort | tr '\\n' ' '; grep -rl needle migrations | wc -l";
    let a = Asking::new(&home, "a", &shell(script));
    a.tree.write("migrations/1.sql", "x");
    a.misses("migrations/1.sql 0");
    a.hits("migrations/1.sql 0");
    a.tree.write("migrations/2.sql", "needle");
    a.misses("migrations/1.sql migrations/2.sql 1");
    a.hits("migrations/1.sql migrations/2.sql 1");
    a.tree.remove("migrations/2.sql");
    a.hits("migrations/1.sql 0");
}

#[test]
fn key_04_a_compile_that_lists_directories_unobserved_is_not_stored() {
    const BODY: &str = "extern \"C\" { fn glob(pattern: *const u8, flags: i32, e: usize, out: *mut usize) -> i32; } \
        let pattern = format!(\"{}/*.sql\\0\", dir.to_str().unwrap()); let mut out = [0usize; 64]; \
        unsafe { glob(pattern.as_ptr(), 0, 0, out.as_mut_ptr()) }; out[0].to_string()";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    for (index, name) in ["1.sql", "2.sql"].iter().enumerate() {
        a.tree.write(name, "");
        let call = a.build(&(index + 1).to_string());
        assert!(call.result == "miss" && call.not_stored.contains("`glob`"), "{call:?}");
    }
}

fn link(tree: &Tree, to: &str, name: &str) {
    let _ = fs::remove_file(tree.join(name));
    std::os::unix::fs::symlink(to, tree.join(name)).unwrap();
}

#[test]
fn key_23_a_link_that_is_read_counts_by_its_text() {
    const BODY: &str = "fs::read_link(dir.join(\"current\")).unwrap().to_str().unwrap().to_string()";
    let home = Home::new();
    let (a, b) = (Asking::new(&home, "a", BODY), Asking::new(&home, "b", BODY));
    for tree in [&a.tree, &b.tree] {
        tree.write("v1/x", "").write("v2/x", "");
    }
    link(&a.tree, "v1", "current");
    link(&b.tree, "v2", "current");
    a.misses("v1");
    b.misses("v2");
    a.hits("v1");
    link(&b.tree, "v1", "current");
    b.hits("v1");
    link(&a.tree, "nowhere", "current");
    a.misses("nowhere");
    a.hits("nowhere");
}

#[test]
fn key_23_dot_dot_behind_a_link_is_the_parent_of_its_target() {
    const BODY: &str =
        "fs::read_to_string(dir.join(\"current/../name.txt\")).unwrap_or(\"none\".to_string())";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    // Lexically the path leads to this file, which has the same content at first.
    a.tree.write("name.txt", "one").write("one/name.txt", "one").write("two/name.txt", "two");
    a.tree.write("one/inner/x", "").write("two/inner/x", "");
    link(&a.tree, "one/inner", "current");
    a.misses("one");
    a.hits("one");
    a.tree.write("one/name.txt", "changed");
    a.misses("changed");
    link(&a.tree, "two/inner", "current");
    a.misses("two");
    a.hits("two");
    a.tree.remove("two/name.txt");
    a.misses("none");
}

#[test]
fn key_23_a_dangling_link_counts() {
    const BODY: &str = "let link = dir.join(\"link\"); \
        format!(\"{} {}\", fs::symlink_metadata(&link).is_ok(), link.exists())";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.misses("false false");
    link(&a.tree, "nowhere", "link");
    a.misses("true false");
    a.hits("true false");
    a.tree.write("nowhere", "");
    a.misses("true true");
    a.hits("true true");
}

/// As askama does it: the kind of a template follows from the name to which its path resolves.
#[test]
fn key_23_that_a_file_is_no_link_counts() {
    const READS: &str = "fs::read_to_string(dir.join(\"data/page.txt\")).unwrap()";
    const RESOLVES: &str = "fs::canonicalize(dir.join(\"data/page.txt\")).unwrap().strip_prefix(fs::canonicalize(&dir).unwrap())\
         .unwrap().to_str().unwrap().to_string()";
    const LOOKS: &str = "[\"data\", \"data/page.txt\"].map(|name| \
         fs::symlink_metadata(dir.join(name)).unwrap().is_symlink().to_string()).join(\" \")";
    const ASKS: &str = "[\"data\", \"data/page.txt\"].map(|name| \
         fs::read_link(dir.join(name)).is_ok().to_string()).join(\" \")";
    const OPENS: &str = "[\"data\", \"data/page.txt\"].map(|name| { use std::os::unix::fs::OpenOptionsExt; \
         let no_follow = if cfg!(target_arch = \"aarch64\") { 0o100000 } else { 0o400000 }; \
         let opened = fs::OpenOptions::new().read(true).custom_flags(no_follow).open(dir.join(name)); \
         opened.is_ok().to_string() }).join(\" \")";
    let started = shell("for name in data data/page.txt; do test -L $name && echo yes; done; true");
    let home = Home::new();
    for (name, body, [is_file, is_link, is_below_link]) in [
        ("reads", READS, ["text"; 3]),
        ("resolves", RESOLVES, ["data/page.txt", "data/page.moved", "other/page.txt"]),
        ("looks", LOOKS, ["false false", "false true", "true false"]),
        ("asks", ASKS, ["false false", "false true", "true false"]),
        ("opens", OPENS, ["true true", "true false", "false true"]),
        ("starts", &started, ["", "yes", "yes"]),
    ] {
        let a = Asking::new(&home, name, body);
        a.tree.write("data/page.txt", "text");
        a.tree.edit(
            "src/main.rs",
            "fn main() { ",
            "fn main() { let _ = include_str!(\"../data/page.txt\"); ",
        );
        a.misses(is_file);
        a.hits(is_file);
        for (place, moved, target, expected) in [
            ("data/page.txt", "data/page.moved", "page.moved", is_link),
            ("data", "other", "other", is_below_link),
        ] {
            a.tree.rename(place, moved);
            link(&a.tree, target, place);
            if name != "reads" {
                a.misses(expected);
            }
            a.hits(expected);
            a.tree.remove(place).rename(moved, place);
            a.hits(is_file);
        }
    }
}

/// As `include_dir` does it: the dep-info names the file to which the link leads, and only the macro names the
/// link.
#[test]
fn key_23_a_link_to_a_source_counts_by_its_target() {
    const BODY: &str = "dir.join(\"data/linked\").is_dir().to_string()";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.tree.write("data/one.txt", "");
    a.tree.edit("src/main.rs", "fn main() { ", "fn main() { let _ = include_str!(\"../data/one.txt\"); ");
    link(&a.tree, "one.txt", "data/linked");
    a.misses("false");
    a.hits("false");
    a.tree.remove("data/linked");
    link(&a.tree, "../src", "data/linked");
    a.misses("true");
    a.hits("true");
}

#[test]
fn key_23_a_file_that_is_opened_for_writing_counts_as_read() {
    // As SQLite does it: the database is opened for writing, and created if it does not exist.
    const BODY: &str = "use std::io::{Read, Write}; let path = dir.join(\"data.db\"); \
        let is_there = fs::metadata(dir.join(\"data.db-wal\")).is_ok(); \
        let mut file = fs::OpenOptions::new().read(true).write(true).create(true).open(&path).unwrap(); \
        let mut text = String::new(); file.read_to_string(&mut text).unwrap(); \
        if text == \"grow\" { file.write_all(b\"n\").unwrap() } format!(\"{text} {is_there}\")";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    for text in ["first", "second"] {
        a.tree.write("data.db", text);
        a.misses(&format!("{text} false"));
        a.hits(&format!("{text} false"));
    }
    a.tree.write("data.db-wal", "");
    a.misses("second true");
    a.tree.remove("data.db-wal");
    // A hit would not change the file, so a compile that does is not stored.
    a.tree.write("data.db", "grow");
    a.writes_besides("grow false", "data.db");
    assert_eq!(a.tree.read("data.db"), "grown");
    // A compile that creates the file is not stored, either.
    a.tree.remove("data.db");
    a.writes_besides(" false", "data.db");
}

#[test]
fn key_23_a_failed_open_for_writing_counts() {
    const BODY: &str = "fs::OpenOptions::new().append(true).open(dir.join(\"log\")).is_ok().to_string()";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.misses("false");
    a.hits("false");
    fs::create_dir(a.tree.join("log")).unwrap();
    a.misses("false");
    fs::remove_dir(a.tree.join("log")).unwrap();
    a.tree.write("log", "");
    a.misses("true");
    a.hits("true");
}

/// Compiles a shared library whose function returns this number.
fn shared_library(tree: &Tree, dir: &str, value: u32) {
    let source = format!("int native(void) {{ return {value}; }}\n");
    tree.write("native.c", source).write(&format!("{dir}/keep"), "");
    let (from, to) = (tree.join("native.c"), tree.join(&format!("{dir}/libnative_k.so")));
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(to).arg(from).status();
    assert!(cc.unwrap().success());
    tree.remove("native.c");
}

#[test]
fn key_14_a_library_that_a_macro_loads_counts() {
    const BODY: &str = "let _ = dir; extern \"C\" { fn dlopen(name: *const u8, flags: i32) -> usize; \
        fn dlsym(handle: usize, name: *const u8) -> usize; } \
        unsafe { let handle = dlopen(b\"libnative_k.so\\0\".as_ptr(), 2); \
        let native: extern \"C\" fn() -> i32 = std::mem::transmute(dlsym(handle, b\"native\\0\".as_ptr())); \
        native().to_string() }";
    let home = Home::new();
    let mut a = Asking::new(&home, "a", BODY);
    a.tree.write("zero/keep", "");
    let path = format!("{}:{}", a.tree.join("zero").display(), a.tree.join("one").display());
    a.set("LD_LIBRARY_PATH", Box::leak(path.into_boxed_str()));
    shared_library(&a.tree, "one", 1);
    a.misses("1");
    a.hits("1");
    shared_library(&a.tree, "one", 2);
    a.misses("2");
    // A library in a directory that is searched earlier.
    shared_library(&a.tree, "zero", 3);
    a.misses("3");
    a.hits("3");
    a.tree.remove("zero/libnative_k.so");
    a.hits("2");
}

#[test]
fn key_23_a_compile_whose_macro_removes_a_file_is_not_stored() {
    const BODY: &str = "let (old, own) = (dir.join(\"old.txt\"), dir.join(\"own.txt\")); \
        fs::write(&own, \"x\").unwrap(); fs::remove_file(&own).unwrap(); \
        if dir.join(\"move\").exists() { fs::rename(&old, dir.join(\"target/new.txt\")).is_ok().to_string() } \
        else { fs::remove_file(&old).is_ok().to_string() }";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    for is_moved in [false, true] {
        if is_moved {
            a.tree.write("move", "");
        }
        for _ in 0..2 {
            a.tree.write("old.txt", "old");
            let call = a.build("true");
            assert!(call.result == "miss" && !call.not_stored.is_empty(), "{call:?}");
            assert!(!a.tree.join("old.txt").exists());
        }
    }
}

#[test]
fn key_23_a_failed_change_of_directory_counts() {
    let home = Home::new();
    let a = Asking::new(&home, "a", &shell("perl -e 'print chdir(\"data\") ? \"there\" : \"none\"'"));
    a.misses("none");
    a.hits("none");
    fs::create_dir(a.tree.join("data")).unwrap();
    a.misses("there");
    a.hits("there");
}

#[test]
fn key_23_a_link_to_which_a_program_changes_its_directory_counts() {
    const BODY: &str = "env::set_current_dir(dir.join(\"current\")).unwrap(); \
        let text = fs::read_to_string(\"x\").unwrap(); env::set_current_dir(dir).unwrap(); text";
    let home = Home::new();
    let body = |goes: &str| match goes {
        "itself" => BODY.to_owned(),
        _ => shell("true")
            .replace("current_dir(dir)", "current_dir(dir.join(\"current\"))")
            .replace("\"true\"", "\"cat x\""),
    };
    for goes in ["itself", "child"] {
        let a = Asking::new(&home, goes, &body(goes));
        a.tree.write("v1/x", "one").write("v2/x", "two");
        for (to, text) in [("v1", "one"), ("v2", "two")] {
            link(&a.tree, to, "current");
            a.misses(text);
            a.hits(text);
        }
    }
}

#[test]
fn key_23_a_program_that_comes_earlier_in_path_counts() {
    const BODY: &str = "let _ = dir; match Command::new(\"kache-test-tool\").output() { \
        Ok(out) => String::from_utf8(out.stdout).unwrap().trim().to_string(), Err(_) => \"none\".to_string() }";
    let home = Home::new();
    let mut a = Asking::new(&home, "a", BODY);
    let rest = crate::home::toolchain_bin().display().to_string();
    let [early, late] = ["early", "late"].map(|name| a.tree.join(name).display().to_string());
    let path =
        |dirs: &[&str]| &*Box::leak(format!("{}:{rest}:/usr/bin:/bin", dirs.join(":")).into_boxed_str());
    a.set("PATH", path(&[&early, &late]));
    a.misses("none");
    a.hits("none");
    a.tree.script("late/kache-test-tool", "echo late");
    a.misses("late");
    a.hits("late");
    a.tree.script("early/kache-test-tool", "echo early");
    a.misses("early");
    a.hits("early");
    a.set("PATH", path(&[&late]));
    a.misses("late");
    a.hits("late");
    a.set("PATH", path(&[]));
    a.misses("none");
}

#[test]
fn key_23_a_program_that_cannot_be_started_counts() {
    const BODY: &str = "match Command::new(dir.join(\"tool\")).output() { \
        Ok(out) => String::from_utf8(out.stdout).unwrap().trim().to_string(), Err(_) => \"none\".to_string() }";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.misses("none");
    a.hits("none");
    a.tree.script("tool", "echo one");
    a.misses("one");
    a.hits("one");
    a.tree.remove("tool");
    a.hits("none");
}
