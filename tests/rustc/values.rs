//! Variables and paths that are used as values: KEY-06, KEY-07, KEY-13 and KEY-23.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::home::Home;
use crate::project;
use crate::tree::Tree;
use crate::unit::Unit;

#[test]
fn key_06_unset_empty_and_set_variables_differ() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/opt.rs", "fn main() { println!(\"{:?}\", option_env!(\"SOME\")) }");
    let unit = Unit::bin(&home, &tree, "opt");
    let (empty, set) = (unit.clone().env("SOME", ""), unit.clone().env("SOME", "x"));
    assert_eq!(unit.misses(), "None");
    assert_eq!(empty.misses(), "Some(\"\")");
    assert_eq!(set.misses(), "Some(\"x\")");
    assert_eq!(set.clone().env("SOME", "a\\b\nc").misses(), r#"Some("a\\b\nc")"#);
    assert_eq!(unit.hits(), "None");
    assert_eq!(empty.hits(), "Some(\"\")");
    assert_eq!(set.hits(), "Some(\"x\")");
    assert_eq!(set.env("SOME", "a\\b\nc").hits(), r#"Some("a\\b\nc")"#);
    // A variable that is not read does not count.
    assert_eq!(unit.env("OTHER", "1").hits(), "None");
}

#[test]
fn key_07_a_path_that_is_read_as_a_value_is_this_checkouts() {
    let home = Home::new();
    // The path is printed, measured, hidden in a macro, or joined to another: never only a locator. Only in the
    // first case does the program contain the path as text.
    for (index, value) in [
        "&str = env!(\"CARGO_MANIFEST_DIR\")",
        "usize = env!(\"CARGO_MANIFEST_DIR\").len()",
        "usize = env!(\"OUT_DIR\").len()",
        "usize = concat!(env!(\"OUT_DIR\"), \"/x\").len()",
        "usize = { macro_rules! hidden { ($name:expr) => { env!($name) } } hidden!(\"OUT_DIR\").len() }",
        "usize = option_env!(\"OUT_DIR\").unwrap().len()",
        "usize = include_str!(concat!(env!(\"OUT_DIR\"), \"/t.txt\")).len() + env!(\"OUT_DIR\").len()",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("v{index}");
        let main = format!("const V: {value}; fn main() {{ println!(\"{{}}\", V) }}");
        for checkout in ["one", "another which is longer"] {
            let tree = home.tree(&format!("{name}/{checkout}"));
            let out_dir = tree.join("target/debug/build/v-1/out");
            tree.write(&format!("src/{name}.rs"), &main).write("target/debug/build/v-1/out/t.txt", "t");
            let unit = Unit::bin(&home, &tree, &name)
                .env("CARGO_MANIFEST_DIR", tree.text())
                .env("OUT_DIR", out_dir.to_str().unwrap());
            // The program prints what plain rustc's program prints in this checkout.
            let first = unit.misses();
            assert_eq!(unit.hits(), first, "{value} in {checkout}");
        }
    }
}

#[test]
fn key_07_out_dir_in_a_pure_include_is_a_locator() {
    let home = Home::new();
    let mut results = Vec::new();
    for checkout in ["one", "another which is longer"] {
        let tree = home.tree(checkout);
        let out_dir = tree.join("target/debug/build/v-1/out");
        tree.write(
            "src/inc.rs",
            "include!(concat!(env!(\"OUT_DIR\"), \"/m.rs\")); fn main() { println!(\"{M}\") }",
        );
        tree.write("target/debug/build/v-1/out/m.rs", "const M: u32 = 5;");
        let unit = Unit::bin(&home, &tree, "inc").env("OUT_DIR", out_dir.to_str().unwrap());
        results.push(if results.is_empty() { unit.misses() } else { unit.hits() });
    }
    assert_eq!(results, ["5", "5"]);
}

#[test]
fn key_13_variables_that_the_compiler_reads_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write(
        "src/boot.rs",
        "#![feature(never_type)] #![allow(internal_features)] fn main() { println!(\"ran\") }",
    );
    let unit = Unit::bin(&home, &tree, "boot");
    assert!(unit.fails().contains("E0554"));
    let allowed = unit.clone().env("RUSTC_BOOTSTRAP", "1");
    assert_eq!(allowed.misses(), "ran");
    assert_eq!(allowed.hits(), "ran");
    assert!(unit.fails().contains("E0554"));
    assert!(unit.env("RUSTC_BOOTSTRAP", "other").fails().contains("E0554"));

    tree.write("src/plain.rs", "fn main() { println!(\"plain\") }");
    let unit = Unit::bin(&home, &tree, "plain");
    unit.misses();
    unit.clone().env("RUSTC_FORCE_RUSTC_VERSION", "1.0.0").misses();
    unit.hits();
}

#[test]
fn key_13_variables_that_the_compiler_does_not_read_do_not_count() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/calm.rs", "pub fn calm() {}");
    let unit = Unit::lib(&home, &tree, "calm");
    unit.misses();
    for (name, value) in [
        ("TERM", "xterm-256color"),
        ("MAKEFLAGS", "-j7"),
        ("PATH", "/usr/bin:/bin:/nowhere"),
        ("LD_LIBRARY_PATH", "/nowhere"),
        ("CARGO_PKG_VERSION", "9.9.9"),
        ("CARGO_PRIMARY_PACKAGE", "1"),
        ("PWD", "/nowhere"),
        ("CI", "true"),
    ] {
        unit.clone().env(name, value).hits();
    }
    unit.with(&["--diagnostic-width=80"]).hits();
}

/// A proc macro that reads variables and a file.
const READING: &str = r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn variable(name: TokenStream) -> TokenStream {
    format!("{:?}", std::env::var(name.to_string()).unwrap_or_default()).parse().unwrap()
}
#[proc_macro]
pub fn secret(_: TokenStream) -> TokenStream {
    format!("{:?}", std::fs::read_to_string("secret.txt").unwrap()).parse().unwrap()
}
"#;

#[test]
fn key_23_variables_that_cargo_sets_count_where_macros_run() {
    let home = Home::new();
    let tree = home.tree("ws");
    tree.write("src/pm.rs", READING);
    tree.write("src/uses.rs", "fn main() { println!(\"{}\", pm::variable!(CARGO_PKG_VERSION)) }");
    Unit::proc_macro(&home, &tree, "pm").misses();
    let unit = Unit::bin(&home, &tree, "uses").uses("pm", "libpm-01234567.so");
    let version = |version| unit.clone().env("CARGO_PKG_VERSION", version);
    assert_eq!(version("1.0.0").misses(), "1.0.0");
    assert_eq!(version("2.0.0").misses(), "2.0.0");
    assert_eq!(version("1.0.0").hits(), "1.0.0");
}

#[test]
fn key_23_a_path_that_a_macro_reads_is_this_checkouts() {
    let home = Home::new();
    for checkout in ["one", "another which is longer"] {
        let tree = home.tree(checkout);
        tree.write("src/pm.rs", READING);
        tree.write("src/uses.rs", "fn main() { println!(\"{}\", pm::variable!(CARGO_MANIFEST_DIR)) }");
        Unit::proc_macro(&home, &tree, "pm").compare();
        let unit = Unit::bin(&home, &tree, "uses").uses("pm", "libpm-01234567.so");
        let unit = unit.env("CARGO_MANIFEST_DIR", tree.text());
        assert_eq!(unit.misses(), tree.text());
        assert_eq!(unit.hits(), tree.text());
    }
}

#[test]
fn key_23_variables_that_a_build_script_sets_for_a_macro_count() {
    let home = Home::new();
    let build = |checkout: &str, value: &str| {
        let tree = project::program(&home, checkout, "fn main() { println!(\"{}\", pm::variable!(TOLD)) }");
        tree.edit("Cargo.toml", "[workspace]", "[dependencies]\npm = { path = \"pm\" }\n[workspace]");
        tree.write(
            "pm/Cargo.toml",
            "[package]\nname = \"pm\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
        );
        tree.write("pm/src/lib.rs", READING);
        tree.write("told.txt", value);
        tree.write(
            "build.rs",
            "fn main() { println!(\"cargo:rerun-if-changed=told.txt\\ncargo:rustc-env=TOLD={}\", std::fs::read_to_string(\"told.txt\").unwrap()) }",
        );
        home.cargo(&tree, &["build"]).ok();
        tree.prints("target/debug/prog")
    };
    assert_eq!(build("a", "first"), "first");
    assert_eq!(build("b", "second"), "second");
    assert_eq!(build("c/c", "first"), "first");
}

#[test]
fn key_23_a_file_that_a_macro_reads_can_be_declared() {
    let home = Home::new();
    let checkout = |name: &str, secret: &str| {
        let tree = project::program(&home, name, "fn main() { println!(\"{}\", pm::secret!()) }");
        tree.edit("Cargo.toml", "[workspace]", "[dependencies]\npm = { path = \"pm\" }\n[workspace]");
        tree.write(
            "pm/Cargo.toml",
            "[package]\nname = \"pm\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
        );
        tree.write("pm/src/lib.rs", READING).write("secret.txt", secret);
        tree.write("kache.toml", "extra_inputs = [\"secret.txt\"]\n");
        tree
    };
    let first = checkout("a", "first");
    home.cargo(&first, &["build"]).ok();
    assert_eq!(first.prints("target/debug/prog"), "first");
    let second = checkout("b", "second");
    home.cargo(&second, &["build"]).ok();
    assert_eq!(second.prints("target/debug/prog"), "second");
    // Cargo itself notices the change, because the dep-info names the file (KEY-21).
    std::thread::sleep(std::time::Duration::from_millis(20));
    first.write("secret.txt", "third");
    home.cargo(&first, &["build"]).ok();
    assert_eq!(first.prints("target/debug/prog"), "third");
    first.write("secret.txt", "first");
    let again = home.cargo(&first, &["build"]).ok();
    assert_eq!(first.prints("target/debug/prog"), "first");
    again.expect_all_hits();
}

#[test]
fn key_23_a_hit_that_differs_from_a_new_compile_is_quarantined() {
    let home = Home::new().with("KACHE_VERIFY_SAMPLE", "1");
    // The response of another process cannot be observed.
    let socket = home.base().join("secret");
    let said = Arc::new(Mutex::new("first"));
    answer_with(&socket, Arc::clone(&said));
    let unseen = format!(
        "use proc_macro::TokenStream;\n#[proc_macro]\npub fn secret(_: TokenStream) -> TokenStream {{\n\
         let secret = std::os::unix::net::UnixStream::connect({socket:?}).unwrap();\n\
         format!(\"{{:?}}\", std::io::read_to_string(secret).unwrap()).parse().unwrap()\n}}\n"
    );
    let checkout = |name: &str| {
        let tree = project::program(&home, name, "fn main() { println!(\"{}\", pm::secret!()) }");
        tree.edit("Cargo.toml", "[workspace]", "[dependencies]\npm = { path = \"pm\" }\n[workspace]");
        tree.write(
            "pm/Cargo.toml",
            "[package]\nname = \"pm\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
        );
        tree.write("pm/src/lib.rs", &unseen);
        tree
    };
    let build = |tree: &Tree| home.cargo(tree, &["build"]).ok();
    let first = checkout("a");
    build(&first);
    let second = checkout("b");
    *said.lock() = "second";
    // The dependency was not declared, which verification by sampling detects.
    build(&second);
    assert_eq!(second.prints("target/debug/prog"), "first");
    crate::home::eventually("the mistake is found", || {
        // The compiler that runs for verification reads the target directory, too.
        std::thread::sleep(std::time::Duration::from_millis(500));
        std::fs::remove_dir_all(second.join("target")).unwrap();
        build(&second);
        second.prints("target/debug/prog") == "second"
    });
}

/// Answers every connection to this socket with this text until the test ends.
fn answer_with(socket: &Path, words: Arc<Mutex<&'static str>>) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // A compiler that was killed does not read the answer.
            let _ = connection.unwrap().write_all(words.lock().as_bytes());
        }
    });
}
