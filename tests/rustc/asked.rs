//! What programs ask for in ways that no question for one file or one variable shows (KEY-23,
//! KEY-15): a whole environment, the name of a directory, what a linker's wrapper reads.
//!
//! As in `observed`, everything is built with kache and without it and has to be the same.

use std::fs;
use std::process::Command;

use crate::home::Home;
use crate::observed::Asking;
use crate::tree::Tree;
use crate::unit::Unit;

/// The body of a macro that runs a script in the package's directory and gives what it prints.
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
fn key_23_a_program_that_walks_through_its_environment() {
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

/// The name that a linker was told to give to a program.
fn build_id(unit: &Unit<'_>) -> Option<u8> {
    const BEGINNING: [u8; 8] = [0xaa, 0x55, 0xaa, 0x55, 0xaa, 0x55, 0xaa, 0x55];
    let program = fs::read(unit.output("")).unwrap();
    let at = program.windows(BEGINNING.len()).position(|part| part == BEGINNING)?;
    program.get(at + BEGINNING.len()).copied()
}

/// A wrapper of this name that looks for an identity in a file and in a variable, by walking
/// through its environment.
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

/// What a wrapper reads counts, whatever its name is.
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
fn key_15_what_a_script_reads_that_links_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.script(
        "wrapper.sh",
        "id=$(cat id.txt 2>/dev/null || echo 0)\nexec /usr/bin/cc \"$@\" -Wl,--build-id=0xaa55aa55aa55aa550${MY_ID:-$id}",
    );
    check_wrapper(&home, &tree, "./wrapper.sh");
}

#[test]
fn key_15_what_a_program_reads_that_is_called_cc_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("bin/keep", "");
    compiled_wrapper(&tree, "bin/cc");
    check_wrapper(&home, &tree, "cc");
}

#[test]
fn key_15_variables_that_a_linker_asks_for_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/emulated.rs", "fn main() {}");
    let unit = Unit::bin(&home, &tree, "emulated").with(&["-C", "link-arg=-fuse-ld=bfd"]);
    unit.misses();
    unit.hits();
    // The linker of GNU obeys it; of the key it is no part.
    let other = unit.clone().env("LDEMULATION", "elf_x86_64");
    other.misses();
    other.hits();
    unit.hits();
}
