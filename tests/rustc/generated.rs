//! What a build script made, found by another crate's macro: KEY-07, KEY-17.

use crate::home::Home;
use crate::tree::Tree;

/// What programs print of the generated file.
const MADE: &str = "made";

/// A crate with this in it.
fn package(tree: &Tree, name: &str, manifest: &str, lib: &str) {
    let head = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    tree.write(&format!("{name}/Cargo.toml"), format!("{head}{manifest}"));
    tree.write(&format!("{name}/src/lib.rs"), lib);
}

/// A program that has a build script, and this to say; `gen` is what it finds its files by.
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

/// In the second place nothing is compiled, and the program is right.
#[track_caller]
fn assert_shared(home: &Home, workspace: impl Fn(&str) -> Tree) {
    let trees = PLACES.map(workspace);
    home.cargo(&trees[0], &["build"]).ok();
    home.cargo(&trees[1], &["build"]).ok().expect_all_hits();
    for tree in &trees {
        assert_eq!(tree.prints("target/debug/prog"), MADE);
    }
    // Cargo finds what it looks for in the dep-info.
    home.cargo(&trees[1], &["build"]).ok().expect_silent();
}

/// In the second place the program is compiled, and each says what is true of its place.
#[track_caller]
fn assert_apart(home: &Home, workspace: impl Fn(&str) -> Tree, expected: impl Fn(&str) -> String) {
    for place in PLACES {
        let tree = workspace(place);
        let built = home.cargo(&tree, &["build"]).ok();
        assert!(built.calls.crates("miss").contains(&"prog"), "{built:#?}");
        assert_eq!(tree.prints("target/debug/prog"), expected(&out_dir(&tree)));
        // It is the right one that is found again.
        tree.remove("target");
        home.cargo(&tree, &["build"]).ok().expect_all_hits();
        assert_eq!(tree.prints("target/debug/prog"), expected(&out_dir(&tree)));
    }
}

#[test]
fn key_17_what_another_crates_macro_includes_is_shared() {
    for home in Home::of_both_kinds() {
        assert_shared(&home, |place| workspace(&home, place, LOCATING, INCLUDING));
    }
}

#[test]
fn key_17_what_a_macro_includes_by_a_variable_of_its_own_is_shared() {
    let home = Home::new();
    let macros =
        "#[macro_export] macro_rules! include_gen { ($n:tt) => { include!(env!(\"PROG_MADE\")); } }\n";
    assert_shared(&home, |place| workspace(&home, place, macros, INCLUDING));
}

#[test]
fn key_17_what_a_macro_includes_that_is_handed_on_is_shared() {
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
fn key_17_a_name_that_is_put_together_is_not_one_that_it_rules_out() {
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
fn key_17_a_rule_that_a_proc_macro_is_made_of_is_nobody_elses() {
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
fn key_07_a_name_that_is_put_together_may_be_any_that_it_fits() {
    let put = "#[macro_export] macro_rules! put { ($a:literal, $b:literal) => { env!(concat!($a, '_', \"DI\", $b)) } }\n";
    let macros = format!("{LOCATING}{put}");
    let main = "gen::include_gen!(\"made\");\n\
                const L: usize = gen::put!(\"OUT\", \"R\").len(); fn main() { let _ = MADE; println!(\"{L}\") }";
    let home = Home::new();
    assert_apart(&home, |place| workspace(&home, place, &macros, main), |out_dir| out_dir.len().to_string());
}

#[test]
fn key_07_a_path_that_another_crates_macro_reads_is_this_checkouts() {
    let macros = format!(
        "{LOCATING}#[macro_export] macro_rules! out_dir {{ () => {{ env!(\"OUT_DIR\") }} }}\n\
         #[macro_export] macro_rules! named {{ ($n:tt) => {{ env!($n) }} }}\n"
    );
    // Only the first program holds the path for everyone to find. In the third, its own tokens
    // locate; in the fourth and fifth another macro of the same crate does.
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
fn key_07_what_a_proc_macro_may_have_written_is_not_taken_for_a_locator() {
    // Whether another crate's macro finds the file or the crate itself.
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
