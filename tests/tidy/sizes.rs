//! Limits the length of files and functions, and what a `mod.rs` may contain.
//!
//! Files become too long a few lines at a time. Tables are exempt, because their length depends on their content.

use crate::source::{Function, Source, matching_brace, words};
use crate::{Complaint, complain};

/// A longer file has more than one subject.
const FILE_LINES_MAX: usize = 1_000;
/// A longer function does not fit on a screen.
const FUNCTION_LINES_MAX: usize = 70;
/// The largest average number of lines in an arm of a `match` that counts as a table.
const ROW_LINES_MAX: usize = 3;

/// Functions and files that are data, with the reason. A row that is not needed any more is a complaint.
const TABLES: &[(&str, &str)] = &[];

/// Complains of a file that is too long.
pub(crate) fn check_file(source: &Source) -> Vec<Complaint> {
    let lines = source.lines();
    if !source.is_our_rust() || lines <= FILE_LINES_MAX || is_table(&source.path) {
        return Vec::new();
    }
    vec![complain(source, 1, &format!("has {lines} lines, more than {FILE_LINES_MAX}: split it"))]
}

/// Complains of functions that are too long.
pub(crate) fn check_functions(source: &Source) -> Vec<Complaint> {
    if !source.is_our_rust() {
        return Vec::new();
    }
    let functions = source.functions();
    let too_long = functions.iter().filter(|function| {
        function.lines.saturating_sub(match_table_lines(source, function)) > FUNCTION_LINES_MAX
            && !is_table(&format!("{}::{}", source.path, function.name))
    });
    let say = |function: &Function| {
        let text =
            format!("`{}` has {} lines, more than {FUNCTION_LINES_MAX}", function.name, function.lines);
        complain(source, function.line, &text)
    };
    too_long.map(say).collect()
}

/// Complains of logic in a `mod.rs`, which belongs into a file with a name.
pub(crate) fn check_mod_file(source: &Source) -> Vec<Complaint> {
    if source.is_test || !source.path.ends_with("/mod.rs") {
        return Vec::new();
    }
    let functions = Source::new(&source.path, &source.product).functions();
    let say = |function: &Function| {
        let text = format!("`{}` is logic: a mod.rs only declares and re-exports", function.name);
        complain(source, function.line, &text)
    };
    functions.iter().map(say).collect()
}

fn is_table(name: &str) -> bool {
    TABLES.iter().any(|(table, _)| *table == name)
}

/// The number of lines in a function's longest `match`, if that is a table.
fn match_table_lines(source: &Source, function: &Function) -> usize {
    let code = &source.code;
    let body = &code[function.body.clone()];
    let matches = words(body).filter(|(_, word)| *word == "match");
    let tables = matches.filter_map(|(at, _)| {
        let open = function.body.start + at + body[at..].find('{')?;
        let block = &code[open..matching_brace(code, open)?];
        let lines = block.matches('\n').count();
        (lines <= ROW_LINES_MAX * arms(block)).then_some(lines)
    });
    tables.max().unwrap_or(0)
}

/// The number of arms in the outermost `match` of a block.
fn arms(block: &str) -> usize {
    let mut depth = 0;
    let mut count = 0;
    let bytes = block.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' | b'(' => depth += 1,
            b'}' | b')' => depth -= 1,
            b'=' if depth == 1 && bytes.get(at + 1) == Some(&b'>') => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function_of(lines: usize, line: &str) -> String {
        format!("fn long() {{\n{}}}\n", line.repeat(lines - 2))
    }

    #[test]
    fn a_file_that_is_too_long_is_found() {
        let check = |lines| check_file(&Source::new("src/a.rs", &"\n".repeat(lines))).len();
        assert_eq!((check(FILE_LINES_MAX), check(FILE_LINES_MAX + 1)), (0, 1));
    }

    #[test]
    fn a_function_that_is_too_long_is_found() {
        let check = |lines| check_functions(&Source::new("src/a.rs", &function_of(lines, "f();\n"))).len();
        assert_eq!((check(FUNCTION_LINES_MAX), check(FUNCTION_LINES_MAX + 1)), (0, 1));
    }

    #[test]
    fn a_match_is_a_table_only_if_its_arms_are_short() {
        let check = |arm: &str| {
            let text = format!("fn f() {{\nmatch x {{\n{}}}\n}}\n", arm.repeat(100));
            check_functions(&Source::new("src/a.rs", &text)).len()
        };
        assert_eq!(check("A => 1,\n"), 0);
        assert_eq!(check("A => {\na();\nb();\nc();\n}\n"), 1);
    }

    #[test]
    fn logic_in_a_mod_file_is_found() {
        let check = |text| check_mod_file(&Source::new("src/daemon/mod.rs", text)).len();
        assert_eq!(check("mod a;\nfn f() {}\n"), 1);
        assert_eq!(check("mod a;\npub use a::B;\n#[cfg(test)]\nmod tests { fn f() {} }\n"), 0);
    }

    #[test]
    fn every_exemption_is_needed() {
        for (table, reason) in TABLES {
            let path = table.split("::").next().unwrap_or_default();
            let file = crate::tree::all().iter().find(|source| source.path == path);
            let file = file.unwrap_or_else(|| panic!("{path} is exempt ({reason}) and not there"));
            let long = file
                .functions()
                .iter()
                .any(|f| f.lines > FUNCTION_LINES_MAX && *table == format!("{path}::{}", f.name));
            assert!(long || file.lines() > FILE_LINES_MAX, "{table} needs no exemption");
        }
    }
}
