//! The inputs of a compile: KEY-01 to KEY-05.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::acting::{acting, waiting};
use crate::home::{Home, eventually};
use crate::tree::Tree;
use crate::unit::Unit;

#[test]
fn key_01_every_file_that_is_read_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    let out_dir = tree.join("target/debug/build/all-1/out");
    let inputs: &[(&str, &str, &str)] = &[
        ("src/plain.rs", "pub const P: &str = \"0\";", "pub const P: &str = \"1\";"),
        ("src/dir/mod.rs", "pub const D: &str = \"0\";", "pub const D: &str = \"1\";"),
        ("other place/odd.rs", "pub const O: &str = \"0\";", "pub const O: &str = \"1\";"),
        ("src/included.rs", "const I: &str = \"0\";", "const I: &str = \"1\";"),
        ("src/text.txt", "0", "1"),
        ("src/bytes.bin", "0", "1"),
        ("target/debug/build/all-1/out/made.rs", "const M: &str = \"0\";", "const M: &str = \"1\";"),
        ("src/doc.md", "//! nothing", "//! something"),
        ("src/all.rs", "println!(\"{P}", "println!(\"0{P}"),
    ];
    tree.write(
        "src/all.rs",
        r#"#![doc = include_str!("doc.md")]
mod plain; mod dir;
#[path = "../other place/odd.rs"] mod odd;
use plain::P; use dir::D; use odd::O;
include!("included.rs");
const T: &str = include_str!("text.txt");
const B: &[u8] = include_bytes!("bytes.bin");
include!(concat!(env!("OUT_DIR"), "/made.rs"));
fn main() { println!("{P}{D}{O}{I}{T}{}{M}", B[0] as char) }
"#,
    );
    for (path, before, _) in &inputs[..inputs.len() - 1] {
        tree.write(path, before);
    }
    let unit = Unit::bin(&home, &tree, "all").env("OUT_DIR", out_dir.to_str().unwrap());
    assert_eq!(unit.misses(), "0000000");
    for (path, before, after) in inputs {
        tree.edit(path, before, after);
        let changed = unit.misses();
        assert!(changed != "0000000" || *path == "src/doc.md", "{path}");
        tree.edit(path, after, before);
        assert_eq!(unit.hits(), "0000000", "{path} has its first content again");
    }
}

#[test]
fn key_02_swapping_the_contents_of_two_inputs_makes_another_action() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write_all(&[
        ("src/two.rs", "fn main() { println!(\"{}{}\", include_str!(\"a.txt\"), include_str!(\"b.txt\")) }"),
        ("src/a.txt", "1"),
        ("src/b.txt", "2"),
    ]);
    let unit = Unit::bin(&home, &tree, "two");
    assert_eq!(unit.misses(), "12");
    tree.rename("src/a.txt", "src/c.txt").rename("src/b.txt", "src/a.txt").rename("src/c.txt", "src/b.txt");
    assert_eq!(unit.misses(), "21");
    tree.write("src/b.txt", "2");
    assert_eq!(unit.misses(), "22");
}

#[test]
fn key_03_a_file_that_appears_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write_all(&[
        ("src/lone.rs", "mod foo; fn main() { println!(\"{}\", foo::F) }"),
        ("src/foo/mod.rs", "pub const F: u32 = 1;"),
    ]);
    let unit = Unit::bin(&home, &tree, "lone");
    assert_eq!(unit.misses(), "1");
    // rustc looked for this file, did not find it, and does not name it in the dep-info.
    tree.write("src/foo.rs", "pub const F: u32 = 2;");
    assert!(unit.fails().contains("E0761"));
    tree.remove("src/foo/mod.rs");
    assert_eq!(unit.misses(), "2");
    tree.write("src/foo/mod.rs", "pub const F: u32 = 1;");
    assert!(unit.fails().contains("E0761"));
    tree.remove("src/foo.rs");
    assert_eq!(unit.hits(), "1");
}

#[test]
fn key_04_a_compile_with_unknown_inputs_is_not_stored() {
    let home = Home::new();
    let tree = home.tree("ws");
    // No dep-info is requested, so the files that were read are unknown.
    tree.write_all(&[
        ("src/blind.rs", "mod m; fn main() { println!(\"{}\", m::M) }"),
        ("src/m.rs", "pub const M: u32 = 1;"),
    ]);
    let unit = Unit::bin(&home, &tree, "blind").emit("link");
    for value in [1, 2, 1] {
        tree.write("src/m.rs", format!("pub const M: u32 = {value};"));
        let (_, outcome) = unit.compare();
        assert!(format!("{outcome:?}").contains(&format!("\"{value}\"")), "{outcome:?}");
    }
    // In this dep-info it is ambiguous where one file name ends and the next begins.
    tree.write("src/odd.rs", "fn main() { println!(\"{}\", include_str!(\"a\\nb.txt\")) }");
    let unit = Unit::bin(&home, &tree, "odd");
    for value in ["1", "2", "1"] {
        tree.write("src/a\nb.txt", value);
        let (_, outcome) = unit.compare();
        assert!(format!("{outcome:?}").contains(&format!("Some(\"{value}\")")), "{outcome:?}");
    }
}

#[test]
fn key_05_a_compile_whose_input_changes_meanwhile_is_not_stored() {
    let home = Home::new();
    let tree = home.tree("ws");
    let unit = acting(&home, &tree);
    tree.write(
        "src/acts.rs",
        "const A: &str = include_str!(\"a.txt\"); pm::act!(); fn main() { println!(\"{A}\") }",
    );
    tree.write("src/a.txt", "before");
    age(&tree, "src/a.txt");
    let child = unit.kache().env("ACT", &format!("wait {}", tree.text())).spawn();
    eventually("the compiler's waiting", || !waiting(&tree).is_empty());
    tree.write("src/a.txt", "after!").write("go", "");
    assert!(child.wait_with_output().unwrap().status.success());
    let calls = home.new_calls();
    assert!(!calls[0].not_stored.is_empty(), "{calls:?}");
    // The file changed since the compiler read it, so kache cannot know which content was compiled.
    assert_eq!(unit.misses(), "after!");
    tree.write("src/a.txt", "before");
    assert_eq!(unit.misses(), "before");
    assert_eq!(unit.hits(), "before");
}

#[test]
fn key_05_outputs_that_are_replaced_at_once_are_not_stored() {
    let home = Home::new();
    let tree = home.tree("ws");
    for round in 0..6 {
        // Another program overwrites the outputs as soon as the wrapper has returned: a compile without kache, or a
        // tool that changes them.
        let main = |value: &str| format!("fn main() {{ println!(\"{value} {round}\") }}");
        tree.write("src/race.rs", main("right")).write("src/other.rs", main("wrong"));
        let unit = Unit::bin(&home, &tree, "race").with(&["-C", "debuginfo=2"]);
        let (program, wrong) = (unit.output(""), tree.join("wrong"));
        let mut compile = home.command(crate::home::rustc());
        compile
            .args(["--crate-name=race", "--edition=2021", "-o"])
            .arg(&wrong)
            .arg(tree.join("src/other.rs"));
        assert!(compile.status().unwrap().success());
        unit.kache().ok_unwatched();
        if round % 2 == 0 {
            fs::rename(&wrong, &program).unwrap();
        } else {
            fs::copy(&wrong, &program).unwrap();
        }
        unit.kache().ok_unwatched();
        assert_eq!(tree.prints(program.to_str().unwrap()), format!("right {round}"));
    }
}

#[test]
fn key_05_a_compile_with_an_input_dated_in_the_future_is_not_stored() {
    let home = Home::new();
    let tree = home.tree("ws");
    let later = SystemTime::now() + Duration::from_secs(3600);
    let text = |value: u32| format!("pub const N: &str = \"{value}\";");
    for path in ["src/root.rs", "src/module.rs", "src/n.txt"] {
        let write = |value: u32, is_dated_later: bool| {
            let main = format!(
                "mod module; const R: u32 = {value}; fn main() {{ println!(\"{{R}}{{}}{{}}\", module::N, include_str!(\"n.txt\")) }}"
            );
            tree.write_all(&[
                ("src/root.rs", &main),
                ("src/module.rs", &text(value)),
                ("src/n.txt", &value.to_string()),
            ]);
            for file in ["src/root.rs", "src/module.rs", "src/n.txt"] {
                age(&tree, file);
            }
            if is_dated_later {
                let file = fs::File::options().write(true).open(tree.join(path)).unwrap();
                file.set_modified(later).unwrap();
            }
            format!("{value}{value}{value}")
        };
        let unit = Unit::bin(&home, &tree, "root").with(&["--cfg", &format!("of=\"{path}\"")]);
        for value in [1, 2, 1] {
            let expected = write(value, true);
            let (call, outcome) = unit.compare();
            assert_eq!((&*call.result, call.compiler_runs), ("miss", 1), "{path}: {call:?}");
            assert!(call.not_stored.contains(path) && call.action.is_empty(), "{path}: {call:?}");
            assert_eq!(outcome.prints(), expected, "{path}");
        }
        // The date was the only reason not to store the result.
        let expected = write(1, false);
        assert_eq!(unit.misses(), expected, "{path}");
        assert_eq!(unit.hits(), expected, "{path}");
        // A stored result stays valid when the date is wrong again.
        write(1, true);
        assert_eq!(unit.compare().1.prints(), expected, "{path}");
        let expected = write(2, true);
        assert_eq!(unit.misses(), expected, "{path}");
    }
}

#[test]
fn key_05_quick_changes_of_the_same_length_are_detected() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write_all(&[
        ("src/quick.rs", "fn main() { println!(\"{}\", include_str!(\"n.txt\")) }"),
        ("src/n.txt", "0"),
    ]);
    let unit = Unit::bin(&home, &tree, "quick");
    let when = SystemTime::now() - Duration::from_secs(1000);
    for value in ["1", "2", "3", "1", "2", "3"] {
        // The date is set back, as some tools do.
        tree.write("src/n.txt", value);
        fs::File::options().write(true).open(tree.join("src/n.txt")).unwrap().set_modified(when).unwrap();
        assert_eq!(unit.compare().1.prints(), value);
    }
}

/// Makes a file older than the coarsest clock of a filesystem.
fn age(tree: &Tree, path: &str) {
    assert!(
        Command::new("touch").args(["-d", "2001-01-01"]).arg(tree.join(path)).status().unwrap().success()
    );
}
