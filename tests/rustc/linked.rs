//! Files that a linker reads: KEY-14 and KEY-15.

use std::fs;
use std::process::Command;

use crate::home::Home;
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

#[test]
fn key_14_an_extern_counts_by_content() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/dep.rs", "pub fn dep() -> u32 { 1 }");
    tree.write("src/user.rs", "fn main() { println!(\"{}\", dep::dep()) }");
    let dep = Unit::lib(&home, &tree, "dep");
    let user = Unit::bin(&home, &tree, "user").uses("dep", "libdep-01234567.rlib");
    dep.misses();
    assert_eq!(user.misses(), "1");
    tree.write("src/dep.rs", "pub fn dep() -> u32 { 2 }");
    dep.misses();
    assert_eq!(user.misses(), "2");
    tree.write("src/dep.rs", "pub fn dep() -> u32 { 1 }");
    dep.hits();
    assert_eq!(user.hits(), "1");
}

/// Creates `libnative.a` in a directory. Its function returns this number.
pub(crate) fn native(tree: &Tree, dir: &str, number: u32) {
    let source = tree.join(dir).join("native.c");
    tree.write(&format!("{dir}/native.c"), format!("unsigned native(void) {{ return {number}; }}\n"));
    let (object, library) = (source.with_extension("o"), source.with_file_name("libnative.a"));
    let _ = fs::remove_file(&library);
    assert!(Command::new("cc").arg("-c").arg(&source).arg("-o").arg(&object).status().unwrap().success());
    assert!(Command::new("ar").arg("crs").arg(&library).arg(&object).status().unwrap().success());
}

pub(crate) const CALLS_NATIVE: &str =
    "extern \"C\" { fn native() -> u32; } pub fn leaf() -> u32 { unsafe { native() } }";

#[test]
fn key_14_a_library_that_an_extern_bundles_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    // The library is bundled into the rlib and not mentioned in any metadata. Crates that depend on it are
    // unchanged except those that are linked.
    native(&tree, "native", 1);
    tree.write("src/low.rs", CALLS_NATIVE);
    tree.write("src/mid.rs", "pub fn mid() -> u32 { low::leaf() }");
    tree.write("src/top.rs", "fn main() { println!(\"{}\", mid::mid()) }");
    let low = Unit::lib(&home, &tree, "low").with(&["-L", "native=native", "-l", "static=native"]);
    let mid = Unit::lib(&home, &tree, "mid").uses("low", "liblow-01234567.rmeta");
    let top = Unit::bin(&home, &tree, "top").uses("mid", "libmid-01234567.rlib");
    low.misses();
    mid.misses();
    assert_eq!(top.misses(), "1");
    native(&tree, "native", 2);
    low.misses();
    mid.hits();
    assert_eq!(top.misses(), "2");
    native(&tree, "native", 1);
    low.hits();
    assert_eq!(top.hits(), "1");
}

#[test]
fn key_14_native_libraries_are_found_as_the_linker_finds_them() {
    let home = Home::new();
    let tree = home.tree("ws");
    native(&tree, "second", 2);
    fs::create_dir(tree.join("first")).unwrap();
    tree.write(
        "src/nat.rs",
        "extern \"C\" { fn native() -> u32; } fn main() { println!(\"{}\", unsafe { native() }) }",
    );
    let unit = Unit::bin(&home, &tree, "nat");
    let unit = unit.with(&["-L", "native=first", "-L", "native=second", "-l", "static=native"]);
    assert_eq!(unit.compare().1.prints(), "2");
    native(&tree, "first", 1);
    assert_eq!(unit.compare().1.prints(), "1");
    native(&tree, "first", 3);
    assert_eq!(unit.compare().1.prints(), "3");
    assert_eq!(unit.hits(), "3");
    tree.remove("first/libnative.a");
    assert_eq!(unit.compare().1.prints(), "2");
}

#[test]
fn key_14_a_native_library_counts_that_is_linked_under_another_name() {
    let home = Home::new();
    let tree = home.tree("ws");
    let source = |name: &str, main: &str| {
        let text = format!("#[link(name = \"asked\")] extern \"C\" {{ fn native() -> u32; }} {main}");
        tree.write(&format!("src/{name}.rs"), text);
    };
    source("ren", "fn main() { println!(\"{}\", unsafe { native() }) }");
    source("low", "pub fn low() -> u32 { unsafe { native() } }");
    tree.write("src/top.rs", "fn main() { println!(\"{}\", low::low()) }");
    fn renamed<'h>(unit: Unit<'h>, name: &str) -> Unit<'h> {
        unit.with(&["-L", "native=lib", "-l", &format!("static=asked:{name}")])
    }
    native(&tree, "lib", 1);
    fs::copy(tree.join("lib/libnative.a"), tree.join("lib/libother.a")).unwrap();
    let program = renamed(Unit::bin(&home, &tree, "ren"), "native");
    let low = renamed(Unit::lib(&home, &tree, "low"), "native");
    let top = Unit::bin(&home, &tree, "top").uses("low", "liblow-01234567.rlib");
    assert_eq!(program.misses(), "1");
    low.misses();
    assert_eq!(top.misses(), "1");
    assert_eq!(program.hits(), "1");
    low.hits();
    // Another library with the same content changes the command line.
    renamed(Unit::lib(&home, &tree, "low"), "other").misses();
    native(&tree, "lib", 2);
    assert_eq!(program.misses(), "2");
    low.misses();
    assert_eq!(top.misses(), "2");
}

#[test]
fn key_14_a_library_that_a_build_script_links_counts() {
    let home = Home::new();
    let build = |checkout: &str, number: u32| {
        let tree = project::program(
            &home,
            checkout,
            "extern \"C\" { fn native() -> u32; } fn main() { println!(\"{}\", unsafe { native() }) }",
        );
        native(&tree, "native", number);
        tree.write(
            "build.rs",
            "fn main() { println!(\"cargo:rustc-link-search=native={}/native\\ncargo:rustc-link-lib=static=native\", std::env::var(\"CARGO_MANIFEST_DIR\").unwrap()) }",
        );
        let built = home.cargo(&tree, &["build"]).ok();
        (tree.prints("target/debug/prog"), built)
    };
    assert_eq!(build("a", 1).0, "1");
    assert_eq!(build("b", 2).0, "2");
    let (prints, _) = build("c/longer", 1);
    assert_eq!(prints, "1");
}

/// A linker that is a script of the project and calls the system's.
fn linker(tree: &Tree, path: &str, build_id: &str) {
    crate::toolchain::before(tree, path, "/usr/bin/cc", &[&format!("-Wl,--build-id=0x{build_id}")]);
}

fn has_build_id(unit: &Unit<'_>, id: &[u8]) -> bool {
    let program = fs::read(unit.output("")).unwrap();
    program.windows(id.len()).any(|window| window == id)
}

#[test]
fn key_15_the_linker_counts() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/linked.rs", "fn main() {}");
    let id = |last| [0xaa, 0x55, 0xaa, 0x55, 0xaa, 0x55, 0xaa, 0x55, last];
    let program = tree.join("bin/my-cc");
    let unit = Unit::bin(&home, &tree, "linked").with(&["-C", &format!("linker={}", program.display())]);
    for last in [1, 2] {
        linker(&tree, "bin/my-cc", &format!("aa55aa55aa55aa550{last}"));
        unit.misses();
        assert!(has_build_id(&unit, &id(last)));
        unit.hits();
        assert!(has_build_id(&unit, &id(last)));
    }

    // The linker is found by its name through this call's `PATH`.
    linker(&tree, "one/my-cc", "aa55aa55aa55aa5503");
    linker(&tree, "two/my-cc", "aa55aa55aa55aa5504");
    for (dir, last) in [("one", 3), ("two", 4), ("one", 3)] {
        let path = format!("{}:/usr/bin:/bin", tree.join(dir).display());
        let unit = Unit::bin(&home, &tree, "linked").with(&["-C", "linker=my-cc"]).env("PATH", &path);
        unit.compare();
        assert!(has_build_id(&unit, &id(last)), "{dir}");
    }
    // A script may run any program, and is observed.
    for last in [5, 6] {
        tree.script("bin/my-cc", &format!("exec cc \"$@\" -Wl,--build-id=0xaa55aa55aa55aa550{last}"));
        unit.misses();
        assert!(has_build_id(&unit, &id(last)));
        unit.hits();
    }
}

#[test]
fn key_15_files_that_linker_arguments_name_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write(
        "src/args.rs",
        "extern \"C\" { fn native() -> u32; } fn main() { println!(\"{}\", unsafe { native() }) }",
    );
    let object = |number| native(&tree, "native", number);
    object(1);
    let direct = Unit::bin(&home, &tree, "args").with(&["-C", "link-arg=native/native.o"]);
    let listed = Unit::bin(&home, &tree, "args").with(&["-C", "link-arg=@link.args"]);
    let joined = Unit::bin(&home, &tree, "args").with(&["-C", "link-args=-Lnative -lnative"]);
    tree.write("link.args", "native/native.o\n");
    for unit in [&direct, &listed, &joined] {
        for number in [1, 2, 1] {
            object(number);
            assert_eq!(unit.compare().1.prints(), number.to_string());
        }
    }
    tree.write("native/other.c", "").write("link.args", "native/libnative.a\n");
    object(4);
    assert_eq!(listed.compare().1.prints(), "4");
}

#[test]
fn key_15_another_linker_is_another_action() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/flavour.rs", "fn main() { println!(\"flavour\") }");
    let unit = Unit::bin(&home, &tree, "flavour");
    unit.misses();
    unit.clone().with(&["-C", "link-arg=-fuse-ld=bfd"]).misses();
    unit.clone().with(&["-C", "link-arg=-Wl,-O1"]).misses();
    unit.hits();
}
