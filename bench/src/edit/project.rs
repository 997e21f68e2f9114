//! A workspace of three crates: a large one, one that uses it, and a program that uses the latter.
//!
//! The large crate is `regex-syntax`, 58,000 lines, in the version that the demonstration's
//! lock file pins; it is a member of the workspace, so that cargo compiles it incrementally.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::rust::{Cargo, Checkout, copy};

/// The package whose sources become the large crate.
const PACKAGE: &str = "regex-syntax";

/// The file that is edited, relative to the checkout.
const EDITED: &str = "large/src/lib.rs";

/// The text before and after the number that is edited.
const EDIT: [&str; 2] = ["\n/// The edit.\npub fn edit() -> u32 {\n    ", "\n}\n"];

/// Files of the workspace, without the large crate's sources.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = [\"large\", \"middle\", \"program\"]\nresolver = \"3\"\n"),
    (
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"large\"\nversion = \"0.1.0\"\n\n\
         [[package]]\nname = \"middle\"\nversion = \"0.1.0\"\ndependencies = [\"large\"]\n\n\
         [[package]]\nname = \"program\"\nversion = \"0.1.0\"\ndependencies = [\"middle\"]\n",
    ),
    (
        "large/Cargo.toml",
        "[package]\nname = \"large\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n\
         [lints.rust]\nunexpected_cfgs = \"allow\"\n\n\
         [features]\ndefault = [\"std\", \"unicode-age\", \"unicode-bool\", \"unicode-case\", \
         \"unicode-gencat\", \"unicode-perl\", \"unicode-script\", \"unicode-segment\"]\n\
         std = []\nunicode-age = []\nunicode-bool = []\nunicode-case = []\nunicode-gencat = []\n\
         unicode-perl = []\nunicode-script = []\nunicode-segment = []\n",
    ),
    (
        "middle/Cargo.toml",
        "[package]\nname = \"middle\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n\
         [dependencies]\nlarge = { path = \"../large\" }\n",
    ),
    ("middle/src/lib.rs", "pub fn edit() -> u32 {\n    large::edit()\n}\n"),
    (
        "program/Cargo.toml",
        "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n\
         [dependencies]\nmiddle = { path = \"../middle\" }\n",
    ),
    ("program/src/main.rs", "fn main() {\n    println!(\"{}\", middle::edit());\n}\n"),
];

/// The workspace, as a template for checkouts.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    sources: PathBuf,
}

impl Project {
    /// Fetches the dependencies of `demo`, a checkout of the demonstration, and finds the large crate's sources
    /// among them.
    pub(crate) fn find(cargo: &Cargo, demo: &Checkout) -> Result<Project> {
        cargo.fetch(demo)?;
        let mut command = cargo.command(Path::new("cargo"));
        command.args(["metadata", "--locked", "--offline", "--format-version", "1"]).current_dir(&demo.root);
        let said = command.output().context("failed to run `cargo metadata`")?;
        ensure!(said.status.success(), "`cargo metadata` failed: {}", String::from_utf8_lossy(&said.stderr));
        let metadata: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let manifest = packages
            .filter(|package| package["name"] == PACKAGE)
            .find_map(|package| package["manifest_path"].as_str());
        let manifest = manifest.with_context(|| format!("the demonstration does not use `{PACKAGE}`"))?;
        let sources = Path::new(manifest).with_file_name("src");
        Ok(Project { sources })
    }

    /// Writes the workspace into a checkout.
    pub(crate) fn check_out(&self, checkout: &Checkout) -> Result<()> {
        copy(&self.sources, &checkout.root.join("large/src"))?;
        for (name, text) in FILES {
            let path = checkout.root.join(name);
            fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
            fs::write(path, text)?;
        }
        let path = checkout.root.join(EDITED);
        let text = fs::read_to_string(&path)? + &edit(0);
        // The registry's files may be read-only.
        fs::remove_file(&path)?;
        Ok(fs::write(path, text)?)
    }

    /// Replaces the previous edit by the edit of this number.
    pub(crate) fn edit(&self, checkout: &Checkout, number: u32) -> Result<()> {
        let path = checkout.root.join(EDITED);
        let before = fs::read_to_string(&path)?;
        let after = before.replace(&edit(number - 1), &edit(number));
        ensure!(before != after, "the edit {number} changes nothing");
        Ok(fs::write(path, after)?)
    }

    /// Fails unless the program was built from this edit.
    pub(crate) fn check(&self, cargo: &Cargo, checkout: &Checkout, number: u32) -> Result<()> {
        let mut command = cargo.command(&checkout.target().join("debug/program"));
        let said = String::from_utf8(command.output()?.stdout)?;
        ensure!(said.trim() == number.to_string(), "after edit {number} the program says `{said}`");
        Ok(())
    }
}

fn edit(number: u32) -> String {
    format!("{}{number}{}", EDIT[0], EDIT[1])
}
