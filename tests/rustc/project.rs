//! A small workspace with one of each kind of thing that a compile reads or makes.

use std::process::Command;
use std::sync::OnceLock;

use crate::home::Home;
use crate::tree::Tree;

/// The program's output for the unchanged sources.
pub(crate) const PRINTS: &str =
    "made=made data=data opt=unset stamp=stamp a=a b=b odd=odd loud=false said=hello twig=49";

const FILES: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        r#"[workspace]
members = ["util", "kcore", "pm", "app", "cdyl"]
resolver = "2"
[profile.dev]
debug = "line-tables-only"
[profile.quick]
inherits = "release"
opt-level = 1
"#,
    ),
    (
        "util/Cargo.toml",
        "[package]\nname = \"util\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nloud = []\n",
    ),
    (
        "util/src/lib.rs",
        r#"pub const LOUD: bool = cfg!(feature = "loud");
pub fn shout() -> &'static str { let unused = 1; "hello" }
"#,
    ),
    (
        "kcore/Cargo.toml",
        "[package]\nname = \"kcore\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntwig = \"1\"\nutil = { path = \"../util\" }\n",
    ),
    (
        "kcore/build.rs",
        r#"fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=KCORE_STAMP=stamp");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("gen.rs"), "pub const MADE: &str = \"made\";").unwrap();
}
"#,
    ),
    (
        "kcore/src/lib.rs",
        r#"include!(concat!(env!("OUT_DIR"), "/gen.rs"));
mod a;
mod b;
#[path = "odd name.rs"]
mod odd;
pub const DATA: &str = include_str!("data.txt");
pub const OPT: &str = match option_env!("MINI_OPT") { Some(text) => text, None => "unset" };
pub fn all() -> String {
    format!("made={MADE} data={DATA} opt={OPT} stamp={} a={} b={} odd={} loud={} said={} twig={}",
        env!("KCORE_STAMP"), a::A, b::B, odd::ODD, util::LOUD, util::shout(), twig::twig())
}
pub fn panics() { panic!("on purpose") }
"#,
    ),
    ("kcore/src/data.txt", "data"),
    ("kcore/src/a.rs", "pub const A: &str = \"a\";\n"),
    ("kcore/src/b/mod.rs", "pub const B: &str = \"b\";\n"),
    ("kcore/src/odd name.rs", "pub const ODD: &str = \"odd\";\n"),
    (
        "pm/Cargo.toml",
        "[package]\nname = \"pm\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
    ),
    (
        "pm/src/lib.rs",
        r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn hello(_: TokenStream) -> TokenStream { "fn hello() {}".parse().unwrap() }
"#,
    ),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nkcore = { path = \"../kcore\" }\npm = { path = \"../pm\" }\n",
    ),
    ("app/src/main.rs", "pm::hello!();\nfn main() { hello(); println!(\"{}\", kcore::all()); }\n"),
    ("app/tests/it.rs", "#[test]\nfn it() { assert_eq!(1 + 1, 2); }\n"),
    ("app/benches/be.rs", "#[test]\nfn be() { assert_eq!(kcore::DATA, \"data\"); }\n"),
    ("app/examples/ex.rs", "fn main() { println!(\"{}\", kcore::all()); kcore::panics() }\n"),
    (
        "cdyl/Cargo.toml",
        "[package]\nname = \"cdyl\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\ncrate-type = [\"cdylib\", \"staticlib\", \"rlib\"]\n",
    ),
    ("cdyl/src/lib.rs", "#[no_mangle]\npub extern \"C\" fn cdyl() -> u32 { 3 }\n"),
];

/// The workspace in a worktree with this name. All worktrees have the same lock file.
pub(crate) fn mini(home: &Home, name: &str) -> Tree {
    static LOCK: OnceLock<String> = OnceLock::new();
    let tree = home.tree(name);
    tree.write_all(FILES);
    lock(home, &tree, &LOCK);
    tree
}

/// Adds a lock file as if it came from the repository: cargo has not run in this worktree.
pub(crate) fn lock(home: &Home, tree: &Tree, known: &OnceLock<String>) {
    let lock = known.get_or_init(|| {
        let copy = home.tree("locked");
        let copied = Command::new("cp").arg("-rT").args([tree.path(), copy.path()]).status();
        assert!(copied.unwrap().success());
        home.plain_cargo(&copy, &["generate-lockfile"]).ok_unwatched();
        copy.read("Cargo.lock")
    });
    tree.write("Cargo.lock", lock);
}

/// A worktree two levels down, with a longer path and a space in its name.
pub(crate) fn mini_far_away(home: &Home) -> Tree {
    mini(home, "some where/much/longer than the first")
}

const FEATURES: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = [\"shared\", \"a\", \"b\"]\nresolver = \"2\"\n"),
    (
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nx = []\ny = []\n[dependencies]\ntwig = \"1\"\n",
    ),
    (
        "shared/src/lib.rs",
        r#"pub fn say() { println!("x={} y={}", cfg!(feature = "x"), cfg!(feature = "y")) }"#,
    ),
    (
        "a/Cargo.toml",
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nshared = { path = \"../shared\", features = [\"x\"] }\n",
    ),
    ("a/src/main.rs", "fn main() { shared::say() }\n"),
    (
        "b/Cargo.toml",
        "[package]\nname = \"b\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nshared = { path = \"../shared\", features = [\"y\"] }\n",
    ),
    ("b/src/main.rs", "fn main() { shared::say() }\n"),
];

/// Two programs that need one crate with different features.
pub(crate) fn features(home: &Home, name: &str) -> Tree {
    let tree = home.tree(name);
    tree.write_all(FEATURES);
    tree
}

/// A package of one program.
pub(crate) fn program(home: &Home, name: &str, main: &str) -> Tree {
    let tree = home.tree(name);
    tree.write(
        "Cargo.toml",
        "[package]\nname = \"prog\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    );
    tree.write("src/main.rs", main);
    tree
}
