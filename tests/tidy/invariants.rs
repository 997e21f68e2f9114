//! Tests that are named for the invariant they guard: `sto_03_what_holds`.
//!
//! What the ids stand for is written where the code keeps them, and in ARCHITECTURE.md.

use std::collections::HashSet;

use crate::source::Source;
use crate::{Complaint, complain};

/// An invariant: its area and its number.
type Id = (&'static str, u32);

/// The areas: what identifies a compile, C and C++, restoring, the store, remotes, the
/// daemon. And how many invariants each has.
const AREAS: &[(&str, u32)] = &[("key", 23), ("cc", 6), ("rst", 12), ("sto", 10), ("net", 7), ("dmn", 7)];

/// Of these areas, the first so many have a test each. C and remotes are not there yet.
const GUARDED: &[(&str, u32)] = &[("key", 23), ("rst", 12), ("sto", 10), ("dmn", 7)];

/// A test that looks as if it were named for an invariant, and names none.
pub(crate) fn check_ids(source: &Source) -> Vec<Complaint> {
    let functions = source.functions().into_iter().filter(|function| {
        function.is_test && AREAS.iter().any(|(area, _)| looks_like(&function.name, area))
    });
    let wrong = functions.filter(|function| invariant_of(&function.name).is_none());
    wrong
        .map(|function| {
            let text = format!("`{}` names no invariant: `area_NN_what_holds` is expected", function.name);
            complain(source, function.line, &text)
        })
        .collect()
}

/// The invariants that some test in these files is named for.
pub(crate) fn named_in(sources: &[Source]) -> HashSet<Id> {
    let functions = sources.iter().filter(|source| source.is_our_rust()).flat_map(Source::functions);
    functions.filter(|function| function.is_test).filter_map(|f| invariant_of(&f.name)).collect()
}

/// The invariants that should have a test and have none.
pub(crate) fn unguarded(named: &HashSet<Id>) -> Vec<Complaint> {
    let all = GUARDED.iter().flat_map(|(area, count)| (1..=*count).map(move |number| (*area, number)));
    all.filter(|id| !named.contains(id))
        .map(|(area, number)| format!("no test is named `{area}_{number:02}_…`"))
        .collect()
}

fn invariant_of(name: &str) -> Option<Id> {
    let (area, rest) = name.split_once('_')?;
    let (number, what) = rest.split_once('_')?;
    let (area, count) = AREAS.iter().find(|(known, _)| *known == area)?;
    let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = number.parse().ok()?;
    (is_number && (1..=*count).contains(&number) && !what.is_empty()).then_some((*area, number))
}

/// The area, perhaps an underscore, then a digit.
fn looks_like(name: &str, area: &str) -> bool {
    let rest = name.strip_prefix(area).map(|rest| rest.trim_start_matches('_'));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_named(name: &str) -> Source {
        Source::new("src/a.rs", &format!("#[test]\nfn {name}() {{}}"))
    }

    #[test]
    fn a_malformed_id_is_found() {
        for wrong in ["sto_3_x", "sto_11_x", "sto03_x", "key_00_x", "dmn_08_x", "net_007_x", "sto_03"] {
            assert_eq!(check_ids(&test_named(wrong)).len(), 1, "{wrong}");
        }
        for right in ["sto_03_x", "key_23_x", "keys_are_sorted", "stored", "net_is_down"] {
            assert_eq!(check_ids(&test_named(right)).len(), 0, "{right}");
        }
    }

    #[test]
    fn an_invariant_without_a_test_is_found() {
        let all: Vec<Source> = (1..=10).map(|n| test_named(&format!("sto_{n:02}_x"))).collect();
        assert_eq!(unguarded(&named_in(&all)).len(), 42);
        assert_eq!(unguarded(&named_in(&all[1..])).len(), 43);
        let helper = Source::new("src/a.rs", "fn sto_01_x() {}");
        assert_eq!(named_in(&[helper]).len(), 0);
    }
}
