//! Files above the workspace: the workspace is a subdirectory of its repository, and two checkouts share results if
//! these files are equal.
//!
//! In each checkout the workspace is `<name>/rust`, and `<name>` is the repository. Every compile is compared with
//! one without kache: the program's output, and the files that the dep-info names.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::home::Home;
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

/// The source of a proc macro `ask!()` that expands to the string which `body` makes of the package's directory
/// `dir`.
fn macro_source(body: &str) -> String {
    format!(
        "use proc_macro::TokenStream;\n\
         #[allow(unused)] use std::{{env, fs, path::{{Path, PathBuf}}, process::Command}};\n\
         #[allow(unused)] fn found(dir: PathBuf) -> String {{ {body} }}\n\
         #[proc_macro] pub fn ask(_: TokenStream) -> TokenStream {{\n\
         format!(\"{{:?}}\", found(env::var_os(\"CARGO_MANIFEST_DIR\").unwrap().into())).parse().unwrap()\n}}\n"
    )
}

/// A checkout whose workspace is a subdirectory.
struct Checkout<'h> {
    home: &'h Home,
    repo: Tree,
    ws: Tree,
}

impl<'h> Checkout<'h> {
    fn new(home: &'h Home, name: &str) -> Self {
        Checkout { home, repo: home.tree(name), ws: home.tree(&format!("{name}/rust")) }
    }

    /// A program that prints the string that a macro with this body makes.
    fn asking(home: &'h Home, name: &str, body: &str) -> Self {
        let checkout = Checkout::new(home, name);
        checkout.ws.write("src/pm.rs", macro_source(body));
        checkout.ws.write("src/asks.rs", "fn main() { println!(\"{}\", pm::ask!()) }");
        Unit::proc_macro(home, &checkout.ws, "pm").compare();
        checkout
    }

    fn unit(&self, name: &'static str) -> Unit<'_> {
        Unit::bin(self.home, &self.ws, name).env("CARGO_MANIFEST_DIR", self.ws.text())
    }

    fn asks(&self) -> Unit<'_> {
        self.unit("asks").uses("pm", "libpm-01234567.so")
    }
}

/// Asserts that two checkouts with different files above their workspaces get results of their own, and share a
/// result if the files are equal.
#[track_caller]
fn assert_each_gets_its_own<'h>(
    what: &str,
    make: impl Fn(&str) -> Checkout<'h>,
    unit: for<'c> fn(&'c Checkout<'h>) -> Unit<'c>,
    set: impl Fn(&Checkout<'h>, &str),
) {
    let (r1, r2) = (make("r1"), make("r2"));
    set(&r1, "1");
    set(&r2, "2");
    assert_eq!(unit(&r1).misses(), "1", "{what}");
    assert_eq!(unit(&r2).misses(), "2", "{what}");
    assert_eq!(unit(&r1).hits(), "1", "{what}");
    assert_eq!(unit(&r2).hits(), "2", "{what}");
    set(&r2, "3");
    assert_eq!(unit(&r2).misses(), "3", "{what}");
    set(&r2, "1");
    assert_eq!(unit(&r2).hits(), "1", "the other checkout's result is used here: {what}");
}

#[test]
fn key_01_included_files_above_the_workspace_count() {
    let source = |text: &str| text.to_owned();
    for (what, main) in [
        ("text", source("fn main() { print!(\"{}\", include_str!(\"../../shared.txt\")) }")),
        ("code", source("const V: u32 = include!(\"../../shared.txt\"); fn main() { print!(\"{V}\") }")),
        (
            "text by the manifest",
            source(
                "fn main() { print!(\"{}\", include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../shared.txt\"))) }",
            ),
        ),
        (
            "assembly",
            source(
                "std::arch::global_asm!(\".section .rodata\", \".global kache_text\", \"kache_text: .incbin \\\"../shared.txt\\\"\", \".text\");\n\
                 unsafe extern \"C\" { static kache_text: u8; }\n\
                 fn main() { print!(\"{}\", unsafe { kache_text } as char) }",
            ),
        ),
    ] {
        let home = Home::new();
        let make = |name: &str| {
            let checkout = Checkout::new(&home, name);
            checkout.ws.write("src/up.rs", &main);
            checkout
        };
        assert_each_gets_its_own(
            what,
            make,
            |checkout| checkout.unit("up"),
            |checkout, text| {
                checkout.repo.write("shared.txt", text);
            },
        );
    }
}

#[test]
fn key_01_a_module_above_the_workspace_counts() {
    let home = Home::new();
    let make = |name: &str| {
        let checkout = Checkout::new(&home, name);
        let main = "#[path = \"../../outside.rs\"] mod outside; fn main() { print!(\"{}\", outside::VALUE) }";
        checkout.ws.write("src/up.rs", main);
        checkout
    };
    assert_each_gets_its_own(
        "module",
        make,
        |checkout| checkout.unit("up"),
        |checkout, text| {
            // The unused function causes a warning, which names the path.
            checkout.repo.write("outside.rs", format!("pub const VALUE: u32 = {text}; fn unused() {{}}"));
        },
    );
}

#[test]
fn key_23_files_that_a_macro_reads_above_the_workspace_count() {
    for body in [
        "fs::read_to_string(dir.join(\"../shared.txt\")).unwrap()",
        "fs::read_to_string(\"../shared.txt\").unwrap()",
        "fs::read_to_string(dir.join(\"src/../../shared.txt\")).unwrap()",
    ] {
        let home = Home::new();
        let make = |name: &str| Checkout::asking(&home, name, body);
        assert_each_gets_its_own(body, make, Checkout::asks, |checkout, text| {
            checkout.repo.write("shared.txt", text);
        });
    }
}

#[test]
fn key_23_files_that_a_program_reads_above_the_workspace_count() {
    let body = "let out = Command::new(\"cat\").arg(\"../shared.txt\").output().unwrap(); \
                String::from_utf8(out.stdout).unwrap()";
    let home = Home::new();
    // A program knows its directory, so the result is not shared with other checkouts.
    for (name, text) in [("r1", "1"), ("r2", "2")] {
        let checkout = Checkout::asking(&home, name, body);
        checkout.repo.write("shared.txt", text);
        assert_eq!(checkout.asks().misses(), text);
        assert_eq!(checkout.asks().hits(), text);
        checkout.repo.write("shared.txt", "3");
        assert_eq!(checkout.asks().misses(), "3");
    }
}

#[test]
fn key_23_files_that_a_macro_finds_by_searching_upwards_count() {
    // The observer sees only absolute paths here, so the first checkout's file counts, too.
    for body in [
        "fs::read_to_string(dir.parent().unwrap().join(\"shared.txt\")).unwrap()",
        "fs::read_to_string(dir.join(\"..\").canonicalize().unwrap().join(\"shared.txt\")).unwrap()",
        "dir.ancestors().find_map(|dir| fs::read_to_string(dir.join(\"shared.txt\")).ok()).unwrap()",
        "let root = dir.ancestors().find(|dir| dir.join(\".marker\").exists()).unwrap(); \
         fs::read_to_string(root.join(\"shared.txt\")).unwrap()",
    ] {
        let home = Home::new();
        let make = |name: &str| {
            let checkout = Checkout::asking(&home, name, body);
            checkout.repo.write(".marker/x", "");
            checkout
        };
        assert_each_gets_its_own(body, make, Checkout::asks, |checkout, text| {
            checkout.repo.write("shared.txt", text);
        });
    }
}

#[test]
fn key_23_a_file_that_is_read_by_a_fixed_absolute_path_counts() {
    let body = "fs::read_to_string(fs::read_to_string(dir.join(\"where\")).unwrap()).unwrap()";
    for place in ["data.txt", "rust/data.txt"] {
        let home = Home::new();
        let (r1, r2) = (Checkout::asking(&home, "r1", body), Checkout::asking(&home, "r2", body));
        for checkout in [&r1, &r2] {
            // Both contain the first checkout's path, as if the file was copied.
            checkout.ws.write("where", r1.repo.join(place).to_str().unwrap());
            checkout.repo.write(place, "old");
        }
        assert_eq!(r1.asks().misses(), "old", "{place}");
        r2.asks().compare();
        r1.repo.write(place, "new");
        assert_eq!(r2.asks().compare().1.prints(), "new", "{place}");
        assert_eq!(r1.asks().compare().1.prints(), "new", "{place}");
    }
}

#[test]
fn key_03_a_failed_search_upwards_is_shared_between_checkouts_at_every_depth() {
    const NAME: &str = "kache-test-that-nobody-has.txt";
    let body = format!(
        "dir.ancestors().find_map(|dir| fs::read_to_string(dir.join(\"{NAME}\")).ok()).unwrap_or(\"none\".to_owned())"
    );
    let home = Home::new();
    let checkout = |name: &str| Checkout::asking(&home, name, &body);
    let (r1, r2, deep, deeper) = (checkout("r1"), checkout("r2"), checkout("a/r3"), checkout("a/b/r4"));
    assert_eq!(r1.asks().misses(), "none");
    for other in [&r2, &deep, &deeper] {
        assert_eq!(other.asks().hits(), "none");
    }
    // The file is in a directory that exists only for this checkout.
    home.tree("a").write(NAME, "found");
    assert_eq!(deep.asks().misses(), "found");
    assert_eq!(deeper.asks().misses(), "found");
    assert_eq!(r1.asks().hits(), "none");
    // The file may be at any level, and the nearest one counts.
    r1.repo.write(NAME, "near");
    assert_eq!(r1.asks().misses(), "near");
    r2.repo.write(NAME, "near too");
    assert_eq!(r2.asks().misses(), "near too");
    r1.repo.remove(NAME);
    assert_eq!(r1.asks().hits(), "none");
}

#[test]
fn key_03_a_file_that_appears_above_the_workspace_counts() {
    for body in [
        "fs::read_to_string(dir.join(\"../.env\")).unwrap_or(\"none\".to_owned())",
        "fs::read_to_string(dir.parent().unwrap().join(\".env\")).unwrap_or(\"none\".to_owned())",
        "dir.join(\"../.env\").exists().to_string().replace(\"true\", \"1\").replace(\"false\", \"none\")",
    ] {
        let home = Home::new();
        let (r1, r2) = (Checkout::asking(&home, "r1", body), Checkout::asking(&home, "r2", body));
        assert_eq!(r1.asks().misses(), "none", "{body}");
        assert_eq!(r2.asks().hits(), "none", "{body}");
        r2.repo.write(".env", "1");
        assert_eq!(r2.asks().misses(), "1", "{body}");
        assert_eq!(r1.asks().hits(), "none", "{body}");
    }
}

#[test]
fn key_07_the_path_of_a_directory_above_a_root_binds_the_result_to_it() {
    for body in [
        "dir.parent().unwrap().display().to_string()",
        "dir.parent().unwrap().parent().unwrap().display().to_string()",
        "dir.join(\"..\").canonicalize().unwrap().join(\"x\").display().to_string()",
    ] {
        let home = Home::new();
        let prints = |name: &str| {
            let checkout = Checkout::asking(&home, name, body);
            let (_, outcome) = checkout.asks().compare();
            checkout.asks().hits();
            outcome.prints().to_owned()
        };
        let found = ["r1", "r2", "a/r3"].map(prints);
        assert_ne!(found[0], found[2], "{body}");
    }
}

#[test]
fn key_07_the_target_of_a_link_in_an_output_binds_the_result_to_it() {
    let home = Home::new();
    let body = "dir.canonicalize().unwrap().display().to_string()";
    for name in ["r1", "r2"] {
        home.tree(name);
        let link = home.base().join("now");
        let _ = fs::remove_file(&link);
        symlink(home.base().join(name), &link).unwrap();
        let checkout = Checkout::asking(&home, "now", body);
        let (_, outcome) = checkout.asks().compare();
        assert!(outcome.prints().ends_with(&format!("{name}/rust")), "{outcome:?}");
    }
}

#[test]
fn key_01_parent_directories_of_links_are_resolved_as_the_kernel_does() {
    // `now/rust` is a link, so `now/rust/..` is the parent of the link's target and not `now`.
    for body in [
        "fs::read_to_string(dir.join(\"../shared.txt\")).unwrap()",
        "fs::read_to_string(dir.parent().unwrap().join(\"shared.txt\")).unwrap()",
        "fs::read_to_string(dir.join(\"link/../shared.txt\")).unwrap()",
    ] {
        let home = Home::new();
        let real = home.tree("real/ws");
        symlink(real.path(), home.tree("now").join("rust")).unwrap();
        home.tree("real/below/deep");
        symlink(home.base().join("real/below/deep"), real.join("link")).unwrap();
        let checkout = Checkout::asking(&home, "now", body);
        for text in ["1", "2", "1"] {
            home.tree("real").write("shared.txt", format!("{text} real"));
            home.tree("now").write("shared.txt", format!("{text} named"));
            home.tree("real/below").write("shared.txt", format!("{text} linked"));
            real.write("shared.txt", format!("{text} own"));
            checkout.asks().compare();
            checkout.asks().compare();
        }
    }
}

/// Creates `libnative.a` in a directory. Its function returns this number.
fn native(tree: &Tree, number: &str) {
    tree.write("native.c", format!("unsigned native(void) {{ return {number}; }}\n"));
    let run = |program: &str, args: &[&str]| {
        assert!(Command::new(program).args(args).current_dir(tree.path()).status().unwrap().success());
    };
    run("cc", &["-c", "native.c", "-o", "native.o"]);
    let _ = fs::remove_file(tree.join("libnative.a"));
    run("ar", &["crsD", "libnative.a", "native.o"]);
}

#[test]
fn key_14_a_native_library_above_the_workspace_counts() {
    let home = Home::new();
    let make = |name: &str| {
        let checkout = Checkout::new(&home, name);
        let main = "extern \"C\" { fn native() -> u32; } fn main() { print!(\"{}\", unsafe { native() }) }";
        checkout.ws.write("src/nat.rs", main);
        checkout
    };
    let unit: for<'c> fn(&'c Checkout<'_>) -> Unit<'c> =
        |checkout| checkout.unit("nat").with(&["-L", "native=../lib", "-l", "static=native"]);
    assert_each_gets_its_own("library", make, unit, |checkout, number| {
        native(
            &home.tree(checkout.repo.join("lib").strip_prefix(home.base()).unwrap().to_str().unwrap()),
            number,
        );
    });
}

#[test]
fn key_15_a_linkers_file_above_the_workspace_counts() {
    let home = Home::new();
    let make = |name: &str| {
        let checkout = Checkout::new(&home, name);
        let main = "extern \"C\" { static kache_number: u8; } \
                    fn main() { print!(\"{}\", &raw const kache_number as usize) }";
        checkout.ws.write("src/scr.rs", main);
        checkout
    };
    let unit: for<'c> fn(&'c Checkout<'_>) -> Unit<'c> = |checkout| {
        checkout.unit("scr").with(&["-C", "link-arg=-Wl,../number.ld", "-C", "relocation-model=static"])
    };
    assert_each_gets_its_own("script", make, unit, |checkout, number| {
        checkout.repo.write("number.ld", format!("kache_number = {number};\n"));
    });
}

/// A repository whose workspace includes a file above it and depends on a package beside it.
fn repository(home: &Home, name: &str) -> Tree {
    let repo = home.tree(name);
    let package =
        |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    let depends =
        "[dependencies]\nbeside = { path = \"../beside\" }\ninner = { path = \"inner\" }\n[workspace]\n";
    repo.write("rust/Cargo.toml", package("prog") + depends)
        .write("rust/inner/Cargo.toml", package("inner"))
        .write("beside/Cargo.toml", package("beside"));
    repo.write_all(&[
        (
            "rust/src/main.rs",
            "fn main() { println!(\"{} {} {}\", inner::TEXT, beside::TEXT, env!(\"WHERE\")) }",
        ),
        ("rust/inner/src/lib.rs", "pub const TEXT: &str = include_str!(\"../../../shared.txt\");"),
        ("beside/src/lib.rs", "pub const TEXT: &str = include_str!(\"../../beside.txt\");"),
        (".cargo/config.toml", "[env]\nWHERE = \"one\"\n"),
        ("shared.txt", "shared"),
        ("beside.txt", "beside"),
    ]);
    repo
}

#[test]
fn rst_06_cargo_watches_the_files_above_this_checkouts_workspace() {
    let home = Home::new();
    let [first, second] = ["r1", "r2"].map(|name| repository(&home, name));
    let build = |repo: &Tree| {
        let ws = Tree::new(repo.join("rust"));
        let built = home.cargo(&ws, &["build"]).ok();
        home.cargo(&ws, &["build"]).ok().expect_silent();
        let prints = ws.prints("target/debug/prog");
        let plain = home.plain_cargo(&ws, &["run", "-q", "--target-dir", "plain"]).ok_unwatched();
        assert_eq!(plain.stdout.trim_end(), prints, "a build without kache prints the same");
        (built, prints)
    };
    assert_eq!(build(&first).1, "shared beside one");
    let (built, prints) = build(&second);
    assert_eq!(prints, "shared beside one");
    assert!(built.calls.crates("local_hit").contains(&"inner"), "{built:#?}");
    std::thread::sleep(std::time::Duration::from_millis(20));
    // An edit above the workspace affects this checkout only.
    second.write("shared.txt", "edited");
    assert_eq!(build(&second).1, "edited beside one");
    assert_eq!(build(&first).1, "shared beside one");
    first.write("beside.txt", "edited too");
    assert_eq!(build(&second).1, "edited beside one");
    assert_eq!(build(&first).1, "shared edited too one");
    second.write(".cargo/config.toml", "[env]\nWHERE = \"two\"\n");
    assert_eq!(build(&second).1, "edited beside two");
    assert_eq!(build(&first).1, "shared edited too one");
}

#[test]
fn key_21_a_declared_file_above_the_workspace_counts() {
    let home = Home::new();
    let checkout = |name: &str, text: &str| {
        let tree = project::program(
            &home,
            &format!("{name}/rust"),
            "fn main() { println!(\"{}\", include_str!(\"../../shared.txt\")) }",
        );
        tree.write("kache.toml", "extra_inputs = [\"../shared.txt\"]\n");
        home.tree(name).write("shared.txt", text);
        home.cargo(&tree, &["build"]).ok();
        tree.prints("target/debug/prog")
    };
    assert_eq!([checkout("r1", "1"), checkout("r2", "2"), checkout("r3", "1")], ["1", "2", "1"]);
}
