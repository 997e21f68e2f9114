//! The workspace as a value: what it consists of follows from it, and so does what its
//! program should print.
//!
//! Numbers are few, so that states come again, in this worktree and in others.

use std::collections::BTreeMap;

/// What can be changed in it by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A constant of the crate that everything depends on.
    Base,
    /// One in a module of its own file.
    Item,
    /// One in a module at a place named by `#[path]`.
    Placed,
    /// A file that is included as text.
    Text,
    /// A file that is included as bytes, by a macro of the crate.
    Bytes,
    /// What a procedural macro expands to.
    Macro,
    /// A file that the build script reads.
    Input,
    /// The build script itself.
    Script,
    /// What the build script sets for its crate.
    Set,
    /// A constant of the program.
    Program,
    /// A test's.
    Test,
}

pub(super) const PARTS: &[Part] = &[
    Part::Base,
    Part::Item,
    Part::Placed,
    Part::Text,
    Part::Bytes,
    Part::Macro,
    Part::Input,
    Part::Script,
    Part::Set,
    Part::Program,
    Part::Test,
];

/// How many values a number has.
pub(super) const VALUES: usize = 3;

/// A variable: what a program sees of it.
pub(super) type Variable = Option<&'static str>;

/// Unset, empty and set are three things (KEY-06).
pub(super) const VARIABLES: &[Variable] = &[None, Some(""), Some("one"), Some("two")];

/// The workspace and what it is built with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) numbers: BTreeMap<Part, usize>,
    /// `item/mod.rs` instead of `item.rs`.
    pub(super) item_has_directory: bool,
    /// Both, which is an error.
    pub(super) item_is_shadowed: bool,
    /// The name of a module and its file.
    pub(super) module_name: usize,
    /// The name of a crate.
    pub(super) crate_name: usize,
    /// A feature that the program asks for.
    pub(super) is_loud: bool,
    /// A feature of the same crate that another crate asks for.
    pub(super) is_quick: bool,
    /// Something that the compiler warns of.
    pub(super) has_warning: bool,
    /// Something that does not compile.
    pub(super) is_broken: bool,
    /// Read by `option_env!`.
    pub(super) option: Variable,
    /// Read by the build script.
    pub(super) of_script: Variable,
    /// Which of the compilers.
    pub(super) compiler: usize,
}

impl Sources {
    pub(super) fn number(&self, part: Part) -> usize {
        self.numbers.get(&part).copied().unwrap_or_default()
    }

    /// The members, by package.
    pub(super) fn packages(&self) -> Vec<String> {
        vec!["base".into(), "made".into(), "words".into(), format!("leaf{}", self.crate_name), "app".into()]
    }

    /// Every file, by its path in the workspace.
    pub(super) fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut add = |path: &str, text: String| assert!(files.insert(path.to_owned(), text).is_none());
        let leaf = format!("leaf{}", self.crate_name);
        let members = self.packages().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        add(
            "Cargo.toml",
            format!("[workspace]\nmembers = [{members}]\nresolver = \"2\"\n[profile.dev]\ndebug = 1\n"),
        );
        self.base(&mut add);
        self.made(&mut add);
        add("words/Cargo.toml", manifest("words", "[lib]\nproc-macro = true\n"));
        let word = self.number(Part::Macro);
        add(
            "words/src/lib.rs",
            format!(
                "use proc_macro::TokenStream;\n#[proc_macro]\npub fn word(_: TokenStream) -> TokenStream \
                 {{ \"\\\"word{word}\\\"\".parse().unwrap() }}\n"
            ),
        );
        let quick = if self.is_quick { ", features = [\"quick\"]" } else { "" };
        let on_base = format!("[dependencies]\nbase = {{ path = \"../base\"{quick} }}\n");
        add(&format!("{leaf}/Cargo.toml"), manifest(&leaf, &on_base));
        let text = "pub fn leaf() -> String { format!(\"leaf on {}\", base::BASE) }\n".to_owned();
        add(&format!("{leaf}/src/lib.rs"), text);
        self.app(&leaf, &mut add);
        files
    }

    fn base(&self, add: &mut impl FnMut(&str, String)) {
        add("base/Cargo.toml", manifest("base", "[features]\nloud = []\nquick = []\n"));
        let module = format!("module{}", self.module_name);
        let unused = if self.has_warning { "pub fn warned() { let unused = 1; }\n" } else { "" };
        add(
            "base/src/lib.rs",
            format!(
                "mod item;\nmod {module};\n#[path = \"odd/a place.rs\"]\nmod placed;\n{unused}\
                 pub const BASE: usize = {};\n\
                 pub fn all() -> String {{ format!(\"base={{BASE}} item={{}} module={{}} placed={{}} text={{}} \
                 bytes={{:?}} loud={{}} quick={{}} option={{:?}} patched={{}}\", item::ITEM, {module}::NAME, \
                 placed::PLACED, include_str!(\"data.txt\"), include_bytes!(\"data.bin\"), \
                 cfg!(feature = \"loud\"), cfg!(feature = \"quick\"), option_env!(\"MODEL_OPTION\"), \
                 cfg!(patched = \"1\")) }}\n",
                self.number(Part::Base),
            ),
        );
        let item = format!("pub const ITEM: usize = {};\n", self.number(Part::Item));
        let (file, directory) = ("base/src/item.rs", "base/src/item/mod.rs");
        if self.item_has_directory || self.item_is_shadowed {
            add(directory, item.clone());
        }
        if !self.item_has_directory || self.item_is_shadowed {
            add(file, item);
        }
        add(&format!("base/src/{module}.rs"), format!("pub const NAME: &str = \"{module}\";\n"));
        add("base/src/odd/a place.rs", format!("pub const PLACED: usize = {};\n", self.number(Part::Placed)));
        add("base/src/data.txt", format!("text{}", self.number(Part::Text)));
        add("base/src/data.bin", format!("{}", self.number(Part::Bytes)));
    }

    fn made(&self, add: &mut impl FnMut(&str, String)) {
        add("made/Cargo.toml", manifest("made", ""));
        let (script, set) = (self.number(Part::Script), self.number(Part::Set));
        add(
            "made/build.rs",
            format!(
                "fn main() {{\n    println!(\"cargo:rerun-if-changed=input.txt\");\n    \
                 println!(\"cargo:rerun-if-changed=build.rs\");\n    \
                 println!(\"cargo:rerun-if-env-changed=MODEL_SCRIPT\");\n    \
                 println!(\"cargo:rustc-env=MADE_SET=set{set}\");\n    \
                 let input = std::fs::read_to_string(\"input.txt\").unwrap();\n    \
                 let variable = std::env::var(\"MODEL_SCRIPT\");\n    \
                 let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n    \
                 let text = format!(\"script{script} {{input}} {{variable:?}}\");\n    \
                 std::fs::write(out.join(\"made.rs\"), format!(\"pub const MADE: &str = {{text:?}};\")).unwrap();\n}}\n"
            ),
        );
        add("made/input.txt", format!("input{}", self.number(Part::Input)));
        add(
            "made/src/lib.rs",
            "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\npub const SET: &str = env!(\"MADE_SET\");\n".into(),
        );
    }

    fn app(&self, leaf: &str, add: &mut impl FnMut(&str, String)) {
        let loud = if self.is_loud { ", features = [\"loud\"]" } else { "" };
        add(
            "app/Cargo.toml",
            manifest(
                "app",
                &format!(
                    "[dependencies]\nbase = {{ path = \"../base\"{loud} }}\nmade = {{ path = \"../made\" }}\n\
                     words = {{ path = \"../words\" }}\n{leaf} = {{ path = \"../{leaf}\" }}\n"
                ),
            ),
        );
        let broken = if self.is_broken { "    let broken: u8 = \"text\";\n" } else { "" };
        add(
            "app/src/main.rs",
            format!(
                "fn main() {{\n{broken}    println!(\"program={} {{}} made={{}} set={{}} {{}} {{}} {{}}\", \
                 base::all(), made::MADE, made::SET, words::word!(), {leaf}::leaf(), \
                 std::path::Path::new(file!()).is_relative());\n}}\n",
                self.number(Part::Program),
            ),
        );
        add(
            "app/tests/it.rs",
            format!(
                "#[test]\nfn prints() {{\n    let output = std::process::Command::new(env!(\"CARGO_BIN_EXE_app\"))\
                 .output().unwrap();\n    println!(\"test{} {{}}\", String::from_utf8(output.stdout).unwrap());\n}}\n",
                self.number(Part::Test),
            ),
        );
    }
}

fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
}
