//! Runs the fuzzed functions on the fuzz corpus and on simple mutations of it.
//!
//! No fuzzer is needed, so it runs everywhere, with the same inputs each time. An input that a fuzzer found is
//! added to `fuzz/corpus/<target>/`.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/entry.rs"]
mod entry;

/// The number of mutations of each input. All of them take about two seconds.
const MUTATIONS: usize = 40;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// The inputs of a target, sorted by name.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(corpus().join(target)).expect("every target has a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it is readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("it is readable")).collect()
}

/// The next number of a xorshift sequence, which is the same every time.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).expect("31 bits fit")
}

/// Makes one small change: flips, removes or doubles a byte, or cuts off the end.
fn mutate(input: &mut Vec<u8>, state: &mut u64) {
    if input.is_empty() {
        input.push(0);
    }
    let at = next(state) % input.len();
    match next(state) % 4 {
        0 => input[at] ^= 1 << (next(state) % 8),
        1 => drop(input.remove(at)),
        2 => input.insert(at, input[at]),
        _ => input.truncate(at),
    }
}

#[test]
fn every_corpus_has_accepted_and_rejected_inputs() {
    for (target, entry) in entry::ENTRIES {
        let accepted = inputs(target).iter().filter(|input| entry(input)).count();
        let refused = inputs(target).len() - accepted;
        assert!(accepted >= 2 && refused >= 2, "{target}: {accepted} accepted, {refused} refused");
    }
}

#[test]
fn mutations_of_the_corpus_keep_all_properties() {
    for (target, _) in entry::ENTRIES {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for input in inputs(target) {
            let mut changed = input.clone();
            for round in 0..MUTATIONS {
                mutate(&mut changed, &mut state);
                entry::run(target, &changed);
                if round % 8 == 7 {
                    changed.clone_from(&input);
                }
            }
        }
    }
}

#[test]
fn every_target_has_its_corpus_and_its_program() {
    let named = |dir: &Path| -> Vec<String> {
        let entries =
            fs::read_dir(dir).expect("it is readable").map(|entry| entry.expect("it is readable").path());
        let mut names: Vec<String> =
            entries.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let entries: Vec<String> = entry::ENTRIES.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(named(&corpus()), entries);
    assert_eq!(named(&corpus().with_file_name("fuzz_targets")), entries);
}
