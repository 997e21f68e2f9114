//! Texts that every file has, and texts that no file has.
//!
//! The forbidden words are concatenated from halves here, so that this file is checked, too.

use crate::source::{Source, is_word};
use crate::{Complaint, complain};

/// Words that mark unfinished work, which is not committed.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!"), concat!("unimplemented", "!")];

/// Directories of one machine or one person.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/mnt/", "c/")];

/// Complains of a file that does not say at its beginning what it owns.
pub(crate) fn check_module_docs(source: &Source) -> Vec<Complaint> {
    if !source.is_our_rust() || source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![complain(source, 1, "does not begin with `//!` and what it owns")]
}

/// Complains of tests that do not run, and of lines that mark unfinished work.
pub(crate) fn check_unfinished(source: &Source) -> Vec<Complaint> {
    let theirs = source.path.starts_with("protos/proto/reapi/") || source.is_generated();
    let is_code = [".rs", ".sh", ".proto", ".toml"].iter().any(|end| source.path.ends_with(end));
    if theirs || !(is_code || source.path == "x") {
        return Vec::new();
    }
    let ignored = [concat!("#[ign", "ore")];
    let found = UNFINISHED.iter().chain(&ignored).flat_map(|word| {
        let hits = source.text.match_indices(word).filter(|(at, _)| begins_a_word(&source.text, *at));
        hits.map(|(at, word)| complain(source, source.line_of(at), &format!("says `{word}`")))
    });
    found.collect()
}

/// Complains of paths that exist on one machine only.
pub(crate) fn check_machine_paths(source: &Source) -> Vec<Complaint> {
    let found = MACHINE_PATHS.iter().flat_map(|path| {
        let hits = source.text.match_indices(path).filter(|(at, _)| begins_a_path(&source.text, *at));
        hits.map(|(at, path)| complain(source, source.line_of(at), &format!("names `{path}`")))
    });
    found.collect()
}

/// Complains of panics without a reason.
pub(crate) fn check_unwrap(source: &Source) -> Vec<Complaint> {
    if source.is_test || !source.is_our_rust() {
        return Vec::new();
    }
    let hits = source.product.match_indices(".unwrap()");
    hits.map(|(at, _)| {
        complain(source, source.line_of(at), "`unwrap` outside a test: `expect(\"why this holds\")`")
    })
    .collect()
}

fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(is_word)
}

/// Whether a path begins here, not in the middle of a longer path or URL.
fn begins_a_path(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| is_word(c) || matches!(c, '.' | '-' | '/' | '}' | '*' | '$' | '>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(text: &str) -> Source {
        Source::new("src/a.rs", text)
    }

    #[test]
    fn a_file_without_its_purpose_is_found() {
        assert_eq!(check_module_docs(&rust("use std::fs;\n")).len(), 1);
        assert_eq!(check_module_docs(&rust("//! The store.\n")).len(), 0);
        assert_eq!(check_module_docs(&Source::new("protos/src/generated/a.rs", "")).len(), 0);
    }

    #[test]
    fn unfinished_work_is_found() {
        for word in UNFINISHED {
            assert_eq!(check_unfinished(&rust(&format!("// {word} later\n"))).len(), 1, "{word}");
        }
        assert_eq!(check_unfinished(&rust(concat!("#[ign", "ore]\nfn f() {}\n"))).len(), 1);
        assert_eq!(check_unfinished(&Source::new("x", concat!("# TO", "DO\n"))).len(), 1);
        assert_eq!(check_unfinished(&rust("// MASTODON and todos\n")).len(), 0);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for path in MACHINE_PATHS {
            assert_eq!(check_machine_paths(&rust(&format!("\"{path}kache\""))).len(), 1, "{path}");
            assert_eq!(check_machine_paths(&rust(&format!("\"some{path}kache\""))).len(), 0, "{path}");
        }
    }

    #[test]
    fn a_panic_without_a_reason_is_found() {
        assert_eq!(check_unwrap(&rust("fn f() { g().unwrap(); }")).len(), 1);
        assert_eq!(check_unwrap(&rust("#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }")).len(), 0);
        assert_eq!(check_unwrap(&Source::new("tests/a.rs", "fn f() { g().unwrap(); }")).len(), 0);
    }
}
