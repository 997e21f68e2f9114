//! Generates workspaces with a given number of crates and files, which need no registry.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};

use crate::rust::Checkout;

/// The number of hits for a median, unless that takes more than `COUNTED_MAX` checkouts.
const HITS_WANTED: usize = 1000;
const COUNTED_MAX: usize = 10;

/// The size of a workspace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) crates: usize,
    pub(crate) files_per_crate: usize,
}

impl Size {
    /// The number of checkouts in which it is measured, so that there are enough hits for a median.
    pub(crate) fn counted(self) -> usize {
        (HITS_WANTED / self.crates).clamp(1, COUNTED_MAX)
    }
}

/// Writes a workspace. Each crate uses the one with half its number.
pub(crate) fn check_out(checkout: &Checkout, size: Size) -> Result<()> {
    let Size { crates, files_per_crate } = size;
    write(checkout, "Cargo.toml", "[workspace]\nmembers = [\"c*\"]\nresolver = \"3\"\n")?;
    let mut lock = "version = 4\n".to_owned();
    for number in 0..crates {
        let uses = (number > 0).then_some(number / 2);
        let mut manifest =
            format!("[package]\nname = \"c{number}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        write!(lock, "\n[[package]]\nname = \"c{number}\"\nversion = \"0.1.0\"\n")?;
        let mut source = String::new();
        if let Some(used) = uses {
            write!(manifest, "\n[dependencies]\nc{used} = {{ path = \"../c{used}\" }}\n")?;
            writeln!(lock, "dependencies = [\"c{used}\"]")?;
            writeln!(source, "pub use c{used}::number as used;")?;
        }
        writeln!(source, "pub fn number() -> usize {{ {number} }}")?;
        for module in 1..files_per_crate {
            writeln!(source, "pub mod m{module};")?;
            let text = format!("pub fn number() -> usize {{ {module} }}\n");
            write(checkout, &format!("c{number}/src/m{module}.rs"), &text)?;
        }
        write(checkout, &format!("c{number}/Cargo.toml"), &manifest)?;
        write(checkout, &format!("c{number}/src/lib.rs"), &source)?;
    }
    // Cargo sorts packages by name; it accepts any order.
    write(checkout, "Cargo.lock", &lock)
}

fn write(checkout: &Checkout, name: &str, text: &str) -> Result<()> {
    let path = checkout.root.join(name);
    fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
    fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))
}
