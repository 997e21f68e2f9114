//! Checks the rules of this repository: which modules may use which others, how long files and functions may be,
//! and what every file says.
//!
//! It reads the repository's text and depends on no crate, so `./x lint` runs it before anything is compiled. Each
//! rule has a test of its own with a sample that breaks the rule.

#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/invariants.rs"]
mod invariants;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/readme.rs"]
mod readme;
#[path = "tidy/sizes.rs"]
mod sizes;
#[path = "tidy/soundness.rs"]
mod soundness;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/texts.rs"]
mod texts;
#[path = "tidy/tree.rs"]
mod tree;

use source::Source;

/// The complaints, each beginning with `file:line:`.
type Complaint = String;

fn complain(source: &Source, line: usize, text: &str) -> Complaint {
    format!("{}:{line}: {text}", source.path)
}

/// Checks every file of the repository against a rule.
fn check(rule: impl Fn(&Source) -> Vec<Complaint>) {
    let complaints: Vec<_> = tree::all().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn forbidden_directions() {
    check(edges::check_directions);
}

#[test]
fn forbidden_dependencies() {
    check(edges::check_manifest);
}

#[test]
fn every_file_says_what_it_owns() {
    check(texts::check_module_docs);
}

#[test]
fn files_are_short() {
    check(sizes::check_file);
}

#[test]
fn functions_are_short() {
    check(sizes::check_functions);
}

#[test]
fn mod_files_only_declare() {
    check(sizes::check_mod_file);
}

#[test]
fn nothing_is_unfinished() {
    check(texts::check_unfinished);
}

#[test]
fn no_path_is_of_one_machine() {
    check(texts::check_machine_paths);
}

#[test]
fn no_unwrap_outside_tests() {
    check(texts::check_unwrap);
}

#[test]
fn invariant_ids_are_well_formed() {
    let invariants = invariants::Invariants::read(&tree::read(invariants::PAGE));
    check(|source| invariants.check_ids(source));
}

#[test]
fn every_invariant_has_a_test() {
    let invariants = invariants::Invariants::read(&tree::read(invariants::PAGE));
    assert_eq!(invariants.unguarded(tree::all()), [""; 0]);
}

#[test]
fn the_page_on_soundness_names_tests() {
    assert_eq!(soundness::check_names(&tree::read("docs/soundness.md"), tree::all()), [""; 0]);
}

#[test]
fn readme_names_what_ci_runs() {
    let complaints = readme::check_commands(&tree::read("README.md"), &tree::read(".ci/run"));
    assert_eq!(complaints, [""; 0]);
}
