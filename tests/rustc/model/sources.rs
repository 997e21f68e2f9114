//! The workspace as a value: what it consists of follows from it, and so does what its
//! program should print.

use std::collections::BTreeMap;

use super::asks;
use super::class::{Class, Classes};
use super::files::Files;
use super::part::Part;
use crate::toolchain::host;

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
    /// The classes that are varied besides. They stay the same while the model runs.
    pub(super) classes: Classes,
}

impl Sources {
    pub(super) fn number(&self, part: Part) -> usize {
        self.numbers.get(&part).copied().unwrap_or_default()
    }

    /// The members, by package.
    pub(super) fn packages(&self) -> Vec<String> {
        let asking = asks::macros(&self.classes).into_iter().chain(asks::crates(&self.classes));
        let plain = ["base", "made", "words", "app"].map(str::to_owned);
        plain.into_iter().chain([self.leaf()]).chain(asking).collect()
    }

    fn leaf(&self) -> String {
        format!("leaf{}", self.crate_name)
    }

    /// The variables of the build.
    pub(super) fn variables(&self) -> Vec<(&'static str, &'static str)> {
        let of = |part: Part| VARIABLES[self.number(part)];
        let all = [
            ("MODEL_OPTION", self.option),
            ("MODEL_SCRIPT", self.of_script),
            ("MODEL_SHELL", of(Part::ShellVariable)),
            ("MODEL_ANY", of(Part::AnyVariable)),
            ("MODEL_LINK", of(Part::LinkerVariable)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Every file and link of the checkout.
    pub(super) fn files(&self) -> Files {
        let mut files = Files::default();
        let members = self.packages().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let workspace =
            format!("[workspace]\nmembers = [{members}]\nresolver = \"2\"\n[profile.dev]\ndebug = 1\n");
        files.text("Cargo.toml", workspace);
        files.text("../.git/HEAD", "ref: refs/heads/main\n");
        self.base(&mut files);
        self.made(&mut files);
        files.text("words/Cargo.toml", manifest("words", "[lib]\nproc-macro = true\ntest = false\n"));
        let word = self.number(Part::Macro);
        let words = format!(
            "use proc_macro::TokenStream;\n#[proc_macro]\npub fn word(_: TokenStream) -> TokenStream \
             {{ \"\\\"word{word}\\\"\".parse().unwrap() }}\n"
        );
        files.text("words/src/lib.rs", words);
        let leaf = self.leaf();
        let quick = if self.is_quick { ", features = [\"quick\"]" } else { "" };
        let on_base =
            format!("[lib]\ntest = false\n[dependencies]\nbase = {{ path = \"../base\"{quick} }}\n");
        files.text(&format!("{leaf}/Cargo.toml"), manifest(&leaf, &on_base));
        let text = "pub fn leaf() -> String { format!(\"leaf on {}\", base::BASE) }\n";
        files.text(&format!("{leaf}/src/lib.rs"), text);
        asks::add(self, &mut files);
        if self.classes.has(Class::Linker) {
            self.linker(&mut files);
        }
        self.app(&mut files);
        files
    }

    fn base(&self, files: &mut Files) {
        let on_twig = "[dependencies]\ntwig = \"1\"\n[features]\nloud = []\nquick = []\n";
        files.text("base/Cargo.toml", manifest("base", on_twig));
        let module = format!("module{}", self.module_name);
        let unused = if self.has_warning { "pub fn warned() { let unused = 1; }\n" } else { "" };
        let (mut modules, mut found) = (String::new(), String::from("String::new()"));
        if self.classes.has(Class::Above) {
            modules += "#[path = \"../../../above/placed.rs\"]\nmod placed_above;\n";
            found =
                "format!(\" {} {}\", include_str!(\"../../../shared.txt\"), placed_above::PLACED)".to_owned();
            files.text("../shared.txt", format!("shared{}", self.number(Part::Shared)));
            let placed = format!("pub const PLACED: usize = {};\n", self.number(Part::PlacedAbove));
            files.text("../above/placed.rs", placed);
        }
        if self.classes.has(Class::Links) {
            modules += "#[path = \"linked directory/linked.rs\"]\nmod linked;\n";
            found += " + &format!(\" {} {}\", include_str!(\"linked.txt\"), linked::LINKED)";
            self.linked(files);
        }
        files.text(
            "base/src/lib.rs",
            format!(
                "mod item;\nmod {module};\n{modules}#[path = \"odd/a place.rs\"]\nmod placed;\n{unused}\
                 pub const BASE: usize = {};\n\
                 pub fn all() -> String {{ format!(\"base={{BASE}} item={{}} module={{}} placed={{}} text={{}} \
                 bytes={{:?}} loud={{}} quick={{}} option={{:?}} patched={{}} twig={{}}{{}}\", item::ITEM, {module}::NAME, \
                 placed::PLACED, include_str!(\"data.txt\"), include_bytes!(\"data.bin\"), \
                 cfg!(feature = \"loud\"), cfg!(feature = \"quick\"), option_env!(\"MODEL_OPTION\"), \
                 cfg!(patched = \"1\"), twig::twig(), {found}) }}\n",
                self.number(Part::Base),
            ),
        );
        let item = format!("pub const ITEM: usize = {};\n", self.number(Part::Item));
        let (file, directory) = ("base/src/item.rs", "base/src/item/mod.rs");
        if self.item_has_directory || self.item_is_shadowed {
            files.text(directory, item.clone());
        }
        if !self.item_has_directory || self.item_is_shadowed {
            files.text(file, item);
        }
        files.text(&format!("base/src/{module}.rs"), format!("pub const NAME: &str = \"{module}\";\n"));
        let placed = format!("pub const PLACED: usize = {};\n", self.number(Part::Placed));
        files.text("base/src/odd/a place.rs", placed);
        files.text("base/src/data.txt", format!("text{}", self.number(Part::Text)));
        files.text("base/src/data.bin", format!("{}", self.number(Part::Bytes)));
    }

    /// Links that the compiler itself follows.
    fn linked(&self, files: &mut Files) {
        let text = ["data.txt", "../linked/other.txt"][self.number(Part::IncludedLink)];
        files.link("base/src/linked.txt", text);
        files.text("base/linked/other.txt", "another text");
        let directory = ["../linked/one", "../linked/two"][self.number(Part::ModuleLink)];
        files.link("base/src/linked directory", directory);
        for name in ["one", "two"] {
            let module = format!("pub const LINKED: &str = {name:?};\n");
            files.text(&format!("base/linked/{name}/linked.rs"), module);
        }
    }

    /// A linker that adds a text to what it links.
    fn linker(&self, files: &mut Files) {
        if self.number(Part::Linker) == 0 {
            return;
        }
        let config = format!("[target.{}]\nlinker = \"tools/wrapped-cc\"\n", host());
        files.text(".cargo/config.toml", config);
        files.script("tools/wrapped-cc", LINKER);
        files.text("tools/flags.txt", format!("flags{}", self.number(Part::LinkerFile)));
    }

    fn made(&self, files: &mut Files) {
        files.text("made/Cargo.toml", manifest("made", ""));
        let (script, set) = (self.number(Part::Script), self.number(Part::Set));
        files.text(
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
        files.text("made/input.txt", format!("input{}", self.number(Part::Input)));
        files.text(
            "made/src/lib.rs",
            "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\npub const SET: &str = env!(\"MADE_SET\");\n",
        );
    }

    fn app(&self, files: &mut Files) {
        let leaf = self.leaf();
        let loud = if self.is_loud { ", features = [\"loud\"]" } else { "" };
        let mut on = format!(
            "[dependencies]\nbase = {{ path = \"../base\"{loud} }}\nmade = {{ path = \"../made\" }}\n\
             words = {{ path = \"../words\" }}\n{leaf} = {{ path = \"../{leaf}\" }}\n"
        );
        let mut found = String::new();
        for name in asks::crates(&self.classes) {
            on += &format!("{name} = {{ path = \"../{name}\" }}\n");
            found += &format!("    println!(\"{name}={{}}\", {name}::FOUND);\n");
        }
        if self.classes.has(Class::Linker) {
            found += LINKED;
        }
        files.text("app/Cargo.toml", manifest("app", &on));
        let broken = if self.is_broken { "    let broken: u8 = \"text\";\n" } else { "" };
        files.text(
            "app/src/main.rs",
            format!(
                "fn main() {{\n{broken}    println!(\"program={} {{}} made={{}} set={{}} {{}} {{}} {{}}\", \
                 base::all(), made::MADE, made::SET, words::word!(), {leaf}::leaf(), \
                 std::path::Path::new(file!()).is_relative());\n{found}}}\n",
                self.number(Part::Program),
            ),
        );
        files.text(
            "app/tests/it.rs",
            format!(
                "#[test]\nfn prints() {{\n    let output = std::process::Command::new(env!(\"CARGO_BIN_EXE_app\"))\
                 .output().unwrap();\n    println!(\"test{} {{}}\", String::from_utf8(output.stdout).unwrap());\n}}\n",
                self.number(Part::Test),
            ),
        );
    }
}

/// Links, and appends what it reads to the output, where it hurts nobody. A linker that is only asked
/// something has no output.
const LINKER: &str = r#"#!/bin/sh
cc "$@" || exit $?
for argument; do
    [ "$before" != -o ] || output="$argument"
    before="$argument"
done
[ -n "$output" ] || exit 0
printf 'LINKED:%s %s' "$(cat "$(dirname "$0")/flags.txt")" "$MODEL_LINK" >>"$output"
"#;

/// Prints what the linker appended. The text that it looks for is not in the program itself.
const LINKED: &str = r#"    {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut sought = b":DEKNIL".to_vec();
        sought.reverse();
        let mut end = Vec::new();
        let mut program = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        program.seek(SeekFrom::End(-100)).unwrap();
        program.read_to_end(&mut end).unwrap();
        let at = end.windows(sought.len()).position(|bytes| bytes == sought);
        println!("linker={}", at.map_or("usual".into(), |at| String::from_utf8_lossy(&end[at..])));
    }
"#;

pub(super) fn manifest(name: &str, rest: &str) -> String {
    format!("[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
}
