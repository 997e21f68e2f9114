//! Files that a build script generates and that another crate's macro includes: KEY-07, KEY-17.

use crate::home::Home;
use crate::tree::Tree;

/// The program's output for the generated file.
const MADE: &str = "made";

/// Writes a package with this source.
fn package(tree: &Tree, name: &str, manifest: &str, lib: &str) {
    let head = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    tree.write(&format!("{name}/Cargo.toml"), format!("{head}{manifest}"));
    tree.write(&format!("{name}/src/lib.rs"), lib);
}

/// A workspace with a program that has a build script. `gen` is the crate whose macros find its generated file.
fn workspace(home: &Home, name: &str, gen_lib: &str, main: &str) -> Tree {
    let tree = home.tree(name);
    tree.write("Cargo.toml", "[workspace]\nmembers = [\"prog\"]\nresolver = \"2\"\n");
    package(&tree, "gen", "", gen_lib);
    tree.write(
        "prog/Cargo.toml",
        "[package]\nname = \"prog\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ngen = { path = \"../gen\" }\n",
    );
    tree.write(
        "prog/build.rs",
        r#"fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("made.rs"), "pub const MADE: &str = \"made\";").unwrap();
    println!("cargo:rustc-env=PROG_MADE={}", out.join("made.rs").display());
}
"#,
    );
    tree.write("prog/src/main.rs", main);
    tree
}

fn out_dir(tree: &Tree) -> String {
    let mut dirs = std::fs::read_dir(tree.join("target/debug/build")).unwrap();
    let out = dirs.find_map(|dir| Some(dir.unwrap().path().join("out")).filter(|out| out.is_dir()));
    out.unwrap().to_str().unwrap().to_owned()
}

const PLACES: [&str; 2] = ["one", "another which is longer"];

const LOCATING: &str = r#"#[macro_export] macro_rules! include_gen {
    ($n:tt) => { include!(concat!(env!("OUT_DIR"), concat!("/", $n, ".rs"))); }
}
"#;

const INCLUDING: &str =
    "mod made { gen::include_gen!(\"made\"); }\nfn main() { println!(\"{}\", made::MADE) }\n";

/// Asserts that nothing is compiled in the second checkout and that the program is right.
#[track_caller]
fn assert_shared(home: &Home, workspace: impl Fn(&str) -> Tree) {
    let trees = PLACES.map(workspace);
    home.cargo(&trees[0], &["build"]).ok();
    home.cargo(&trees[1], &["build"]).ok().expect_all_hits();
    for tree in &trees {
        assert_eq!(tree.prints("target/debug/prog"), MADE);
    }
    // cargo finds the paths that it watches in the dep-info.
    home.cargo(&trees[1], &["build"]).ok().expect_silent();
}

/// Asserts that the program is compiled in each checkout, and that each prints its own path's value.
#[track_caller]
fn assert_apart(home: &Home, workspace: impl Fn(&str) -> Tree, expected: impl Fn(&str) -> String) {
    for place in PLACES {
        let tree = workspace(place);
        let built = home.cargo(&tree, &["build"]).ok();
        assert!(built.calls.crates("miss").contains(&"prog"), "{built:#?}");
        assert_eq!(tree.prints("target/debug/prog"), expected(&out_dir(&tree)));
        // A hit restores the result of the same checkout.
        tree.remove("target");
        home.cargo(&tree, &["build"]).ok().expect_all_hits();
        assert_eq!(tree.prints("target/debug/prog"), expected(&out_dir(&tree)));
    }
}

#[test]
fn key_17_a_file_that_another_crates_macro_includes_is_shared() {
    for home in Home::of_both_kinds() {
        assert_shared(&home, |place| workspace(&home, place, LOCATING, INCLUDING));
    }
}

#[test]
fn key_17_a_file_that_a_macro_includes_by_its_own_variable_is_shared() {
    let home = Home::new();
    let macros =
        "#[macro_export] macro_rules! include_gen { ($n:tt) => { include!(env!(\"PROG_MADE\")); } }\n";
    assert_shared(&home, |place| workspace(&home, place, macros, INCLUDING));
}

#[test]
fn key_17_a_file_that_a_reexported_macro_includes_is_shared() {
    let home = Home::new();
    assert_shared(&home, |place| {
        let tree = workspace(&home, place, "pub use inner::again::*;\n", INCLUDING);
        package(&tree, "inner", "[dependencies]\ninnermost = { path = \"../innermost\" }\n", "");
        tree.write("inner/src/lib.rs", "pub mod again { pub use innermost::include_gen; }\n");
        package(&tree, "innermost", "", LOCATING);
        let text = tree.read("gen/Cargo.toml");
        tree.write("gen/Cargo.toml", text + "[dependencies]\ninner = { path = \"../inner\" }\n");
        tree
    });
}

const SAYING: &str =
    "#[macro_export] macro_rules! said { ($n:literal) => { env!(concat!(\"CARGO_PKG_\", $n)) } }\n";

#[test]
fn key_17_a_concatenated_name_is_not_a_variable_that_it_cannot_spell() {
    let home = Home::new();
    let main = "fn main() { assert_eq!(SAID, \"prog\"); println!(\"{}\", made::MADE) }\n";
    let by_another = format!(
        "mod made {{ gen::include_gen!(\"made\"); }}\nconst SAID: &str = gen::said!(\"NAME\");\n{main}"
    );
    assert_shared(&home, |place| workspace(&home, place, &format!("{LOCATING}{SAYING}"), &by_another));
    let by_itself = format!(
        "{SAYING}mod made {{ include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\")); }}\n\
         const SAID: &str = said!(\"NAME\");\n{main}"
    );
    let itself = |place: &str| workspace(&home, &format!("itself {place}"), "", &by_itself);
    assert_shared(&home, itself);
}

#[test]
fn key_17_a_private_macro_of_a_proc_macros_dependency_does_not_count() {
    let home = Home::new();
    let written = "extern crate proc_macro;\n#[proc_macro]\n\
                   pub fn said(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n\
                   format!(\"\\\"{}\\\"\", base::BASE).parse().unwrap()\n}\n";
    let base =
        "macro_rules! root { () => { include!(concat!(env!(\"OUT_DIR\"), \"/base.rs\")); } }\nroot!();\n";
    let main = "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\
                fn main() { assert_eq!(pm::said!(), \"base\"); println!(\"{MADE}\") }";
    assert_shared(&home, |place| {
        let tree = workspace(&home, place, "", main);
        package(&tree, "base", "", base);
        let script = tree.read("prog/build.rs").replace("made.rs", "base.rs").replace("MADE", "BASE");
        tree.write("base/build.rs", script.replace("\\\"made\\\"", "\\\"base\\\""));
        package(
            &tree,
            "pm",
            "[lib]\nproc-macro = true\n[dependencies]\nbase = { path = \"../base\" }\n",
            written,
        );
        let text = tree.read("prog/Cargo.toml");
        tree.write("prog/Cargo.toml", text + "pm = { path = \"../pm\" }\n");
        tree
    });
}

#[test]
fn key_07_a_concatenated_name_counts_as_every_variable_that_it_can_spell() {
    let put = "#[macro_export] macro_rules! put { ($a:literal, $b:literal) => { env!(concat!($a, '_', \"DI\", $b)) } }\n";
    let macros = format!("{LOCATING}{put}");
    let main = "gen::include_gen!(\"made\");\n\
                const L: usize = gen::put!(\"OUT\", \"R\").len(); fn main() { let _ = MADE; println!(\"{L}\") }";
    let home = Home::new();
    assert_apart(&home, |place| workspace(&home, place, &macros, main), |out_dir| out_dir.len().to_string());
}

#[test]
fn key_07_a_path_that_another_crates_macro_reads_as_a_value_is_this_checkouts() {
    let macros = format!(
        "{LOCATING}#[macro_export] macro_rules! out_dir {{ () => {{ env!(\"OUT_DIR\") }} }}\n\
         #[macro_export] macro_rules! named {{ ($n:tt) => {{ env!($n) }} }}\n"
    );
    // Only the first program contains the path as text. In the third, tokens of the crate itself are a locator; in
    // the fourth and fifth, another macro of the same crate is one.
    for (main, is_length) in [
        ("fn main() { println!(\"{}\", gen::out_dir!()) }", false),
        ("const L: usize = gen::out_dir!().len(); fn main() { println!(\"{L}\") }", true),
        (
            "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\
             const L: usize = gen::out_dir!().len(); fn main() { let _ = MADE; println!(\"{L}\") }",
            true,
        ),
        (
            "gen::include_gen!(\"made\");\n\
             const L: usize = gen::out_dir!().len(); fn main() { let _ = MADE; println!(\"{L}\") }",
            true,
        ),
        (
            "gen::include_gen!(\"made\");\n\
             const L: usize = gen::named!(\"OUT_DIR\").len(); fn main() { let _ = MADE; println!(\"{L}\") }",
            true,
        ),
    ] {
        let home = Home::new();
        let expected = |out_dir: &str| if is_length { out_dir.len().to_string() } else { out_dir.to_owned() };
        assert_apart(&home, |place| workspace(&home, place, &macros, main), expected);
    }
}

#[test]
fn key_07_tokens_that_a_proc_macro_may_have_written_are_no_locator() {
    // Whether another crate's macro includes the file or the crate itself does.
    for includes in ["gen::include_gen!(\"made\");", "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));"] {
        written_by_a_proc_macro(includes);
    }
}

fn written_by_a_proc_macro(includes: &str) {
    let home = Home::new();
    let main = includes.to_owned()
        + "\nconst L: usize = pm::dir!().len(); fn main() { let _ = MADE; println!(\"{L}\") }";
    let written = "extern crate proc_macro;\n#[proc_macro]\n\
                   pub fn dir(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n\
                   \"env!(\\\"OUT_DIR\\\")\".parse().unwrap()\n}\n";
    let with_macro = |place: &str| {
        let tree = workspace(&home, place, LOCATING, &main);
        package(&tree, "pm", "[lib]\nproc-macro = true\n", written);
        let text = tree.read("prog/Cargo.toml");
        tree.write("prog/Cargo.toml", text + "pm = { path = \"../pm\" }\n");
        tree
    };
    assert_apart(&home, with_macro, |out_dir| out_dir.len().to_string());
}
