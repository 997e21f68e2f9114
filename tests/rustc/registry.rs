//! A registry without a network: some packages in the layout of cargo's local registries.
//!
//! Cargo unpacks them below `$CARGO_HOME/registry`, so cargo and kache treat them like packages from crates.io, as
//! immutable.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// A package with its name, dependencies and files.
struct Package {
    name: &'static str,
    depends_on: &'static [&'static str],
    is_proc_macro: bool,
    files: &'static [(&'static str, &'static str)],
}

const PACKAGES: &[Package] = &[
    // It includes a file of OUT_DIR, so that a path of the workspace enters its metadata.
    Package {
        name: "leaf",
        depends_on: &[],
        is_proc_macro: false,
        files: &[
            (
                "build.rs",
                r#"fn main() {
                    println!("cargo:rerun-if-changed=build.rs");
                    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
                    std::fs::write(out.join("leaf.rs"), "pub fn leaf() -> u32 { 7 }").unwrap();
                }"#,
            ),
            ("src/lib.rs", r#"include!(concat!(env!("OUT_DIR"), "/leaf.rs"));"#),
        ],
    },
    Package {
        name: "regpm",
        depends_on: &[],
        is_proc_macro: true,
        files: &[(
            "src/lib.rs",
            r#"use proc_macro::TokenStream;
            #[proc_macro]
            pub fn answer(_: TokenStream) -> TokenStream { "42u32".parse().unwrap() }"#,
        )],
    },
    // Its output depends on a variable that no dep-info names.
    Package {
        name: "spell",
        depends_on: &[],
        is_proc_macro: true,
        files: &[(
            "src/lib.rs",
            r#"use proc_macro::TokenStream;
            #[proc_macro]
            pub fn spell(_: TokenStream) -> TokenStream {
                let word = std::env::var("SPELL").unwrap_or_else(|_| "none".to_owned());
                format!("{word:?}").parse().unwrap()
            }"#,
        )],
    },
    // Neither this package nor its dependencies have a build script.
    Package {
        name: "buds",
        depends_on: &["spell"],
        is_proc_macro: false,
        files: &[(
            "src/lib.rs",
            r#"pub const COUNT: u32 = 1;
            pub fn buds() -> String {
                format!("spell={} buds={} checked={} count={COUNT}",
                    spell::spell!(), option_env!("BUDS").unwrap_or("none"), cfg!(debug_assertions))
            }"#,
        )],
    },
    Package {
        name: "twig",
        depends_on: &["leaf", "regpm"],
        is_proc_macro: false,
        files: &[(
            "src/lib.rs",
            r#"/// Where a panic in an immutable package says that it is.
            pub fn place() -> &'static str { file!() }
            pub fn twig() -> u32 { leaf::leaf() + regpm::answer!() }
            pub fn unlucky() { let nobody_needs_this = 1; }"#,
        )],
    },
];

/// A packed package with its line in the index.
struct Packed {
    name: &'static str,
    bytes: Vec<u8>,
    line: String,
}

/// Writes the registry into a directory.
pub(crate) fn write(dir: &Path) {
    static PACKED: OnceLock<Vec<Packed>> = OnceLock::new();
    for packed in PACKED.get_or_init(|| PACKAGES.iter().map(pack).collect()) {
        let name = packed.name;
        let index = dir.join("index").join(&name[..2]).join(&name[2..4]);
        fs::create_dir_all(&index).unwrap();
        fs::write(dir.join(format!("{name}-1.0.0.crate")), &packed.bytes).unwrap();
        fs::write(index.join(name), &packed.line).unwrap();
    }
}

/// A configuration that makes cargo use such a registry.
pub(crate) fn cargo_config(dir: &Path) -> String {
    format!(
        "[source.crates-io]\nreplace-with = \"here\"\n[source.here]\nlocal-registry = \"{}\"\n",
        dir.display()
    )
}

fn pack(package: &Package) -> Packed {
    let dir = tempfile::tempdir().unwrap();
    let name = package.name;
    let top = format!("{name}-1.0.0");
    let mut manifest = format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    if package.is_proc_macro {
        manifest.push_str("[lib]\nproc-macro = true\n");
    }
    manifest.push_str("[dependencies]\n");
    for dependency in package.depends_on {
        manifest.push_str(&format!("{dependency} = \"1\"\n"));
    }
    let tree = crate::tree::Tree::new(dir.path().join(&top));
    tree.write_all(package.files).write("Cargo.toml", manifest);
    let archive = dir.path().join("package.crate");
    let tar = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(dir.path()).arg(&top).status();
    assert!(tar.unwrap().success());
    let bytes = fs::read(archive).unwrap();
    Packed { name, line: index_line(package, &bytes), bytes }
}

fn index_line(package: &Package, bytes: &[u8]) -> String {
    let dependency = |name: &&str| {
        serde_json::json!({
            "name": name, "req": "^1", "features": [], "optional": false, "default_features": true,
            "target": null, "kind": "normal",
        })
    };
    let checksum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let line = serde_json::json!({
        "name": package.name, "vers": "1.0.0", "cksum": checksum, "features": {}, "yanked": false,
        "deps": package.depends_on.iter().map(dependency).collect::<Vec<_>>(),
    });
    format!("{line}\n")
}
