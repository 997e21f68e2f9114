//! What every file says, and what none says.
//!
//! The forbidden words are put together from halves here, so that this file, too, is
//! checked.

use crate::source::{Source, is_word};
use crate::{Complaint, complain};

/// What is not finished is not committed.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!"), concat!("unimplemented", "!")];

/// Directories of one machine or one person.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/"), concat!("/mnt/", "c/")];

/// The areas of the invariants, and how many each has.
const INVARIANTS: &[(&str, u32)] =
    &[("key", 23), ("cc", 6), ("rst", 12), ("sto", 10), ("net", 7), ("dmn", 7)];

/// A reader opens a file and reads first what it owns and what it refuses to know.
pub(crate) fn check_module_docs(source: &Source) -> Vec<Complaint> {
    if !source.is_our_rust() || source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![complain(source, 1, "does not begin with `//!` and what it owns")]
}

/// A test that does not run, or a line that says something is missing.
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

/// A path that exists on one machine only.
pub(crate) fn check_machine_paths(source: &Source) -> Vec<Complaint> {
    let found = MACHINE_PATHS.iter().flat_map(|path| {
        let hits = source.text.match_indices(path).filter(|(at, _)| begins_a_path(&source.text, *at));
        hits.map(|(at, path)| complain(source, source.line_of(at), &format!("names `{path}`")))
    });
    found.collect()
}

/// A panic without a reason.
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

/// A test that looks as if it were named for an invariant, and names none.
pub(crate) fn check_invariant_ids(source: &Source) -> Vec<Complaint> {
    if !source.is_our_rust() {
        return Vec::new();
    }
    let wrong = source.functions().into_iter().filter(|function| {
        function.is_test && INVARIANTS.iter().any(|(area, _)| looks_like(&function.name, area))
    });
    let wrong = wrong.filter(|function| invariant_of(&function.name).is_none());
    wrong
        .map(|function| {
            let text = format!("`{}` names no invariant: `area_NN_what_holds` is expected", function.name);
            complain(source, function.line, &text)
        })
        .collect()
}

/// Which invariant a test's name begins with, such as `("sto", 3)`.
pub(crate) fn invariant_of(name: &str) -> Option<(&'static str, u32)> {
    let (area, rest) = name.split_once('_')?;
    let (number, what) = rest.split_once('_')?;
    let (area, count) = INVARIANTS.iter().find(|(known, _)| *known == area)?;
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = number.parse().ok()?;
    (is_number && (1..=*count).contains(&number) && !what.is_empty()).then_some((*area, number))
}

/// The area, perhaps an underscore, then a digit.
fn looks_like(name: &str, area: &str) -> bool {
    let rest = name.strip_prefix(area).map(|rest| rest.trim_start_matches('_'));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(is_word)
}

/// Not the middle of a longer path, nor of a URL.
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

    #[test]
    fn a_malformed_invariant_id_is_found() {
        let check = |name: &str| check_invariant_ids(&rust(&format!("#[test]\nfn {name}() {{}}"))).len();
        for wrong in ["sto_3_x", "sto_11_x", "sto03_x", "key_00_x", "dmn_08_x", "net_007_x", "sto_03"] {
            assert_eq!(check(wrong), 1, "{wrong}");
        }
        for right in ["sto_03_x", "key_23_x", "keys_are_sorted", "stored", "net_is_down"] {
            assert_eq!(check(right), 0, "{right}");
        }
        assert_eq!(invariant_of("dmn_02_x"), Some(("dmn", 2)));
    }
}
