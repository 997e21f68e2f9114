//! Invariants have ids, `docs/invariants.md` says what each id stands for, and tests are named
//! for the invariant that they guard: `sto_03_what_holds`.
//!
//! The page is the only list of ids. An id in the code or in a document that the page does not
//! have is a complaint, and so is an id of the page that no test is named for, unless the page
//! lists it as not built yet.

use std::collections::{BTreeSet, HashSet};

use crate::source::Source;
use crate::{Complaint, complain};

/// The page that lists the invariants.
pub(crate) const PAGE: &str = "docs/invariants.md";

/// The heading on the page below which invariants need no test.
const NOT_BUILT_YET: &str = "## Not built yet";

/// The ids on the page, written as the names of tests begin: `sto_03`.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    /// Ids that some test must be named for.
    guarded: BTreeSet<String>,
    /// Ids of what is not built yet.
    planned: BTreeSet<String>,
}

impl Invariants {
    /// Reads the rows of the page's tables: `| STO-03 | what holds |`.
    pub(crate) fn read(page: &str) -> Invariants {
        let mut invariants = Invariants::default();
        let mut are_planned = false;
        for line in page.lines() {
            are_planned |= line == NOT_BUILT_YET;
            let id = line.strip_prefix("| ").and_then(|row| row.split(' ').next()).and_then(as_test_prefix);
            if let Some(id) = id {
                let kind = if are_planned { &mut invariants.planned } else { &mut invariants.guarded };
                kind.insert(id);
            }
        }
        invariants
    }

    fn has(&self, id: &str) -> bool {
        self.guarded.contains(id) || self.planned.contains(id)
    }

    /// The areas that the ids belong to: `sto`, `key`.
    fn areas(&self) -> BTreeSet<&str> {
        self.guarded.iter().chain(&self.planned).filter_map(|id| id.split('_').next()).collect()
    }

    /// Complains of tests that look as if they were named for an invariant of the page and are not,
    /// and of ids in text that the page does not have.
    pub(crate) fn check_ids(&self, source: &Source) -> Vec<Complaint> {
        let areas = self.areas();
        let functions = source
            .functions()
            .into_iter()
            .filter(|function| function.is_test && areas.iter().any(|area| looks_like(&function.name, area)));
        let wrong = functions.filter(|function| !self.is_guard(&function.name));
        let mut complaints: Vec<Complaint> = wrong
            .map(|function| {
                let text = format!(
                    "`{}` names no invariant of {PAGE}: `area_NN_what_holds` is expected",
                    function.name
                );
                complain(source, function.line, &text)
            })
            .collect();
        // The samples of this rule's own tests are wrong on purpose.
        if source.path != "tests/tidy/invariants.rs" {
            let unknown = ids_in(&source.text, &areas).into_iter().filter(|(_, id)| !self.has(id));
            complaints.extend(unknown.map(|(at, id)| {
                let text = format!("names the invariant `{id}`, which {PAGE} does not have");
                complain(source, source.line_of(at), &text)
            }));
        }
        complaints
    }

    /// Complains of invariants that no test in these files is named for.
    pub(crate) fn unguarded(&self, sources: &[Source]) -> Vec<Complaint> {
        let functions = sources.iter().filter(|source| source.is_our_rust()).flat_map(Source::functions);
        let tests = functions.filter(|function| function.is_test);
        let named: HashSet<String> = tests.filter_map(|test| prefix_of(&test.name)).collect();
        let missing = self.guarded.iter().filter(|id| !named.contains(*id));
        missing.map(|id| format!("{PAGE}: no test is named `{id}_…`")).collect()
    }

    /// Whether this is the name of a test of an invariant.
    fn is_guard(&self, name: &str) -> bool {
        prefix_of(name).is_some_and(|id| self.has(&id))
    }
}

/// `sto_03` of `STO-03`; `None` where the word is no id.
fn as_test_prefix(word: &str) -> Option<String> {
    let (area, number) = word.split_once('-')?;
    let is_area = (2..=3).contains(&area.len()) && area.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_area && is_two_digits(number)).then(|| format!("{}_{number}", area.to_ascii_lowercase()))
}

/// `sto_03` of `sto_03_what_holds`; `None` where nothing is said to hold.
fn prefix_of(name: &str) -> Option<String> {
    let mut parts = name.splitn(3, '_');
    let (area, number, what) = (parts.next()?, parts.next()?, parts.next()?);
    (is_two_digits(number) && !what.is_empty()).then(|| format!("{area}_{number}"))
}

fn is_two_digits(number: &str) -> bool {
    number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the name begins with the area, perhaps an underscore, and a digit.
fn looks_like(name: &str, area: &str) -> bool {
    let rest = name.strip_prefix(area).map(|rest| rest.trim_start_matches('_'));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The ids in a text, such as `STO-03`, with the places where they stand.
fn ids_in(text: &str, areas: &BTreeSet<&str>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for area in areas {
        let start = format!("{}-", area.to_ascii_uppercase());
        for (at, _) in text.match_indices(&start) {
            let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
            let digits: String = text[at + start.len()..].chars().take_while(char::is_ascii_digit).collect();
            if begins && is_two_digits(&digits) {
                found.push((at, format!("{area}_{digits}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str =
        "| id | what holds |\n| STO-03 | a |\n| KEY-23 | b |\n## Not built yet\n| NET-01 | c |\n";

    fn complaints(name: &str) -> usize {
        let source = Source::new("src/a.rs", &format!("#[test]\nfn {name}() {{}}"));
        Invariants::read(SAMPLE).check_ids(&source).len()
    }

    #[test]
    fn a_malformed_or_unknown_id_in_a_name_is_found() {
        for wrong in ["sto_3_x", "sto_11_x", "sto03_x", "key_00_x", "net_007_x", "sto_03"] {
            assert_eq!(complaints(wrong), 1, "{wrong}");
        }
        for right in ["sto_03_x", "key_23_x", "net_01_x", "keys_are_sorted", "stored", "net_is_down"] {
            assert_eq!(complaints(right), 0, "{right}");
        }
    }

    #[test]
    fn an_unknown_id_in_a_text_is_found() {
        for (text, expected) in
            [("//! Keeps STO-03.", 0), ("//! Keeps STO-04.", 1), ("(KEY-23, KEY-24)", 1), ("X-STO-09", 0)]
        {
            let source = Source::new("docs/a.md", text);
            assert_eq!(Invariants::read(SAMPLE).check_ids(&source).len(), expected, "{text}");
        }
    }

    #[test]
    fn an_invariant_without_a_test_is_found() {
        let invariants = Invariants::read(SAMPLE);
        let test = |name: &str| Source::new("src/a.rs", &format!("#[test]\nfn {name}() {{}}"));
        let both = [test("sto_03_x"), test("key_23_x")];
        assert_eq!(invariants.unguarded(&both), [""; 0], "what is not built yet needs none");
        assert_eq!(invariants.unguarded(&both[1..]).len(), 1);
        let helper = Source::new("src/a.rs", "fn sto_03_x() {}");
        assert_eq!(invariants.unguarded(&[helper]).len(), 2, "a function that is no test guards nothing");
    }
}
