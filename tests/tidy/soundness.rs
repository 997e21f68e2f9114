//! Every test that the page on soundness names exists.

use std::collections::HashSet;

use crate::Complaint;
use crate::source::Source;

/// Complains of names on a page that are no tests. A word in backquotes counts as a test's name if it has the form
/// `area_NN_what_holds`.
pub(crate) fn check_names(page: &str, sources: &[Source]) -> Vec<Complaint> {
    let functions = sources.iter().filter(|source| source.is_our_rust()).flat_map(Source::functions);
    let tests: HashSet<String> =
        functions.filter(|function| function.is_test).map(|function| function.name).collect();
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|word| is_a_tests_name(word)).collect();
    if named.is_empty() {
        return vec!["docs/soundness.md: names no test".to_owned()];
    }
    let unknown = named.into_iter().filter(|name| !tests.contains(*name));
    unknown.map(|name| format!("docs/soundness.md: there is no test `{name}`")).collect()
}

fn is_a_tests_name(word: &str) -> bool {
    let mut parts = word.splitn(3, '_');
    let (area, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_area = (2..=3).contains(&area.len()) && area.bytes().all(|byte| byte.is_ascii_lowercase());
    is_area && number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_test_is_found() {
        let source = Source::new("src/a.rs", "#[test]\nfn key_01_a() {}\nfn key_02_b() {}");
        let complaints = |page: &str| check_names(page, std::slice::from_ref(&source)).len();
        assert_eq!(complaints("| `include!` | `key_01_a` |"), 0);
        assert_eq!(complaints("`key_01_a`, `key_01_gone`, `key_02_b`"), 2);
        assert_eq!(complaints("`env!` and nothing else"), 1);
    }
}
