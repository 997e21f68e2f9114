//! How a linker finds the files that it links: scripts, thin archives, links, and directories that shadow each
//! other. KEY-14 and KEY-15.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::home::Home;
use crate::linked::native;
use crate::tree::Tree;
use crate::unit::Unit;

const CALLS_NATIVE: &str =
    "extern \"C\" { fn native() -> u32; } fn main() { println!(\"{}\", unsafe { native() }) }";

const CALLS_LINKED: &str = "#[link(name = \"native\")] extern \"C\" { fn native() -> u32; } \
    fn main() { println!(\"{}\", unsafe { native() }) }";

/// Creates `lib/libnative.so` with links as a package installs it: the name for linking leads to the name for
/// loading, and that leads to the file.
fn shared(tree: &Tree, dir: &str, number: u32) {
    tree.write(&format!("{dir}/native.c"), format!("unsigned native(void) {{ return {number}; }}\n"));
    let place = tree.join(dir);
    let file = format!("libnative.so.1.0.{number}");
    run(&place, "cc", &["-shared", "-fPIC", "-Wl,-soname,libnative.so.1", "-o", &file, "native.c"]);
    for (name, leads_to) in [("libnative.so", "libnative.so.1"), ("libnative.so.1", &file)] {
        let _ = fs::remove_file(place.join(name));
        symlink(leads_to, place.join(name)).unwrap();
    }
}

fn run(dir: &std::path::Path, program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Makes a change and takes it back. Asserts that the program prints each time what it prints without kache, and
/// that the third build is a hit.
#[track_caller]
fn follows(unit: &Unit<'_>, mut change: impl FnMut(u32)) {
    for number in [1, 2] {
        change(number);
        assert_eq!(unit.misses(), number.to_string());
        assert_eq!(unit.hits(), number.to_string());
    }
    change(1);
    assert_eq!(unit.compare().1.prints(), "1");
}

#[test]
fn key_14_files_that_a_linker_script_names_count() {
    let home = Home::new();
    for (index, text) in [
        "INPUT(libreal.a)",
        "GROUP ( -lreal )",
        "INPUT(AS_NEEDED(-l:libreal.a))",
        "/* GNU ld script */ INPUT ( ./real/libreal.a )",
    ]
    .into_iter()
    .enumerate()
    {
        let tree = home.tree(&format!("ws{index}"));
        let real = if text.contains("./real") { "real" } else { "lib" };
        tree.write("src/script.rs", CALLS_LINKED).write("lib/libnative.so", text);
        let unit = Unit::bin(&home, &tree, "script").with(&["-L", "native=lib"]);
        follows(&unit, |number| {
            native(&tree, real, number);
            tree.rename(&format!("{real}/libnative.a"), &format!("{real}/libreal.a"));
        });
    }
}

#[test]
fn key_14_the_members_of_a_thin_archive_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/thin.rs", CALLS_NATIVE).write("src/low.rs", crate::linked::CALLS_NATIVE);
    tree.write("src/top.rs", "fn main() { println!(\"{}\", low::leaf()) }");
    native(&tree, "objects", 1);
    fs::create_dir(tree.join("lib")).unwrap();
    run(tree.path(), "ar", &["crsT", "lib/libnative.a", "objects/native.o"]);
    let arguments = ["-L", "native=lib", "-l", "native"];
    let program = Unit::bin(&home, &tree, "thin").with(&arguments);
    follows(&program, |number| native(&tree, "objects", number));
    // A library, whose own compile does not read it, passes it on.
    let low = Unit::lib(&home, &tree, "low").with(&["-L", "native=lib", "-l", "dylib=native"]);
    let top = Unit::bin(&home, &tree, "top").uses("low", "liblow-01234567.rlib").with(&["-L", "native=lib"]);
    low.misses();
    follows(&top, |number| native(&tree, "objects", number));
}

#[test]
fn key_14_a_shared_library_counts_by_the_target_of_its_links() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/loads.rs", CALLS_LINKED);
    let rpath = format!("link-arg=-Wl,-rpath,{}", tree.join("lib").display());
    let unit = Unit::bin(&home, &tree, "loads").with(&["-L", "native=lib", "-C", &rpath]);
    shared(&tree, "lib", 1);
    assert_eq!(unit.misses(), "1");
    assert_eq!(unit.hits(), "1");
    // Another version has the same name.
    shared(&tree, "lib", 2);
    assert_eq!(unit.misses(), "2");
    // The same file has the name for linking, and is found through a link to a directory.
    tree.rename("lib", "real");
    symlink("real", tree.join("lib")).unwrap();
    assert_eq!(unit.compare().1.prints(), "2");
}

#[test]
fn key_14_a_library_that_newly_shadows_another_counts() {
    let home = Home::new();
    let tree = home.tree("ws/inner");
    tree.write("src/shadow.rs", CALLS_LINKED);
    // The first directory is above the workspace and does not exist yet.
    native(&tree, "lib", 1);
    let above = tree.join("../above");
    let rpath = format!("link-arg=-Wl,-rpath,{}", above.display());
    let unit = Unit::bin(&home, &tree, "shadow");
    let unit = unit.with(&["-L", "native=../above", "-L", "native=lib", "-C", &rpath]);
    assert_eq!(unit.misses(), "1");
    assert_eq!(unit.hits(), "1");
    for number in [2, 3] {
        native(&tree, "../above", number);
        assert_eq!(unit.misses(), number.to_string());
    }
    // In the same directory, a shared library is preferred to a static one.
    shared(&tree, "../above", 4);
    assert_eq!(unit.misses(), "4");
    fs::remove_dir_all(above).unwrap();
    assert_eq!(unit.hits(), "1");
}

#[test]
fn key_15_files_of_linker_arguments_count_in_every_form_of_argument() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write(
        "src/exports.rs",
        "#[no_mangle] pub extern \"C\" fn one() {} #[no_mangle] pub extern \"C\" fn two() {} fn main() {}",
    );
    let symbols = |unit: &Unit<'_>| {
        let output = Command::new("nm").args(["-D", "--defined-only"]).arg(unit.output("")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        ["one", "two"].map(|name| text.lines().any(|line| line.ends_with(&format!(" {name}"))))
    };
    for (index, arguments) in [
        &["link-arg=-Wl,--dynamic-list=list"][..],
        &["link-arg=-Wl,--dynamic-list,list"],
        &["link-arg=-Wl,@arguments"],
        &["link-arg=-Xlinker", "link-arg=--dynamic-list=list"],
        &["link-args=-Wl,--dynamic-list -Wl,list"],
    ]
    .into_iter()
    .enumerate()
    {
        tree.write("arguments", "--dynamic-list=list\n");
        let options: Vec<&str> = arguments.iter().flat_map(|argument| ["-C", argument]).collect();
        let unit = Unit::bin(&home, &tree, "exports").with(&options);
        for (name, expected) in [("one", [true, false]), ("two", [false, true])] {
            tree.write("list", format!("{{ {name}; }};\n"));
            unit.misses();
            assert_eq!(symbols(&unit), expected, "{index}: {arguments:?}");
        }
        tree.write("list", "{ one; };\n");
        unit.hits();
        assert_eq!(symbols(&unit), [true, false], "{index}: {arguments:?}");
    }
}
