//! A directory that is read at compile time.

use include_dir::{Dir, include_dir};

static TEXTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/texts");

fn show(dir: &Dir) {
    for entry in dir.entries() {
        println!("{}", entry.path().display());
        match (entry.as_dir(), entry.as_file()) {
            (Some(dir), _) => show(dir),
            (_, Some(file)) => println!("    {:?}", file.contents_utf8()),
            _ => println!("    neither"),
        }
    }
}

fn main() {
    show(&TEXTS);
}
