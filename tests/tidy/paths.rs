//! Finds the paths that a Rust file names, in its `use` declarations and in its code.
//!
//! Names are resolved as far as one file allows: `crate`, `self` and `super` by the file's path, imported names by
//! its own `use` declarations. Glob imports are not followed.

use std::collections::HashMap;

use crate::source::{Source, is_word};

/// A path that a file names, such as `kache::daemon::core`, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The path, beginning with its crate.
    pub(crate) path: String,
    /// The line, counted from 1.
    pub(crate) line: usize,
}

/// The module of a file, beginning with its crate.
pub(crate) fn module_of(file: &str) -> String {
    const ROOTS: &[(&str, &str)] = &[
        ("cas/src/", "kache_cas"),
        ("client/src/", "kache_client"),
        ("protos/src/", "kache_proto"),
        ("serve/src/", "kache_serve"),
        ("bench/src/", "kache_bench"),
        ("src/bin/", "bin"),
        ("src/", "kache"),
    ];
    let (root, name) = ROOTS.iter().find(|(root, _)| file.starts_with(root)).unwrap_or(&("", "other"));
    let inside = file[root.len()..].trim_end_matches(".rs");
    let parts = inside.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main"));
    std::iter::once(*name).chain(parts).collect::<Vec<_>>().join("::")
}

/// Every path in the code of a file, without its tests.
pub(crate) fn named(source: &Source) -> Vec<Named> {
    let module = module_of(&source.path);
    let code = &source.product;
    let mut imports = Vec::new();
    let mut rest = code.clone();
    for (begin, end) in use_declarations(code) {
        let line = source.line_of(begin);
        let tree = &code[begin + "use".len()..end];
        expand(tree, "", &mut |path, alias| {
            imports.push((Named { path: resolve(&path, &module), line }, alias));
        });
        rest.replace_range(begin..end, &" ".repeat(end - begin));
    }
    let by_name: HashMap<&str, &str> =
        imports.iter().map(|(named, alias)| (alias.as_str(), named.path.as_str())).collect();
    let mut found = inline_paths(&rest)
        .map(|(at, path)| {
            let (first, tail) = path.split_once("::").unwrap_or((&path, ""));
            let path = match by_name.get(first) {
                Some(full) => format!("{full}::{tail}"),
                None => resolve(&path, &module),
            };
            Named { path, line: source.line_of(at) }
        })
        .collect::<Vec<_>>();
    found.extend(imports.into_iter().map(|(named, _)| named));
    found
}

/// Whether a path is this one or lies below it.
pub(crate) fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|tail| tail.is_empty() || tail.starts_with("::"))
}

fn use_declarations(code: &str) -> Vec<(usize, usize)> {
    let words = crate::source::words(code).filter(|(_, word)| *word == "use");
    let declaration = |(at, word): (usize, &str)| {
        let rest = code[at + word.len()..].trim_start();
        let end = code[at..].find(';')?;
        // `impl Trait + use<'_>` imports nothing.
        (!rest.starts_with('<')).then_some((at, at + end))
    };
    words.filter_map(declaration).collect()
}

/// Calls `each` with every path of a `use` tree and the name under which it is imported.
fn expand(tree: &str, before: &str, each: &mut impl FnMut(String, String)) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let before = join(before, head.trim().trim_end_matches("::"));
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        split_outside_braces(group).into_iter().for_each(|part| expand(part, &before, each));
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let path = match path.trim() {
        "self" if !before.is_empty() => before.to_owned(),
        path => join(before, path),
    };
    let alias = if alias.is_empty() { path.rsplit("::").next().unwrap_or_default() } else { alias.trim() };
    each(path.clone(), alias.to_owned());
}

fn join(before: &str, path: &str) -> String {
    if before.is_empty() { path.to_owned() } else { format!("{before}::{path}") }
}

fn split_outside_braces(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut begin = 0;
    let mut parts = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[begin..]);
    parts
}

fn inline_paths(code: &str) -> impl Iterator<Item = (usize, String)> {
    let starts = crate::source::words(code)
        .filter(|(at, _)| !code[..*at].ends_with("::") && !code[..*at].ends_with('.'));
    starts.filter_map(|(at, word)| {
        let mut end = at + word.len();
        while let Some(tail) = code[end..].strip_prefix("::") {
            match tail.find(|c| !is_word(c)).unwrap_or(tail.len()) {
                0 => break,
                len => end += "::".len() + len,
            }
        }
        (end > at + word.len()).then(|| (at, code[at..end].to_owned()))
    })
}

fn resolve(path: &str, module: &str) -> String {
    let path = path.trim_start_matches("::");
    let krate = module.split("::").next().unwrap_or_default();
    let mut base: Vec<&str> = module.split("::").collect();
    let mut parts = path.split("::").peekable();
    match parts.peek() {
        Some(&"crate") => base = vec![krate],
        Some(&"self") => {}
        Some(&"super") => {
            while parts.peek() == Some(&"super") {
                parts.next();
                base.pop();
            }
            return base.into_iter().chain(parts).collect::<Vec<_>>().join("::");
        }
        _ => return path.to_owned(),
    }
    base.into_iter().chain(parts.skip(1)).collect::<Vec<_>>().join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_paths_are_resolved() {
        let text = "use std::{fs::{self, File}, time::Instant as Now};\nuse super::core::Event;\nfn f() { Now::now(); fs::read(); crate::cli::x(); a.b::<u8>(); }\n#[cfg(test)]\nmod tests { use tokio::x; }\n";
        let found = named(&Source::new("src/daemon/driver.rs", text));
        let paths: Vec<&str> = found.iter().map(|named| named.path.as_str()).collect();
        for expected in [
            "std::fs",
            "std::fs::File",
            "std::time::Instant",
            "std::time::Instant::now",
            "std::fs::read",
            "kache::daemon::core::Event",
            "kache::cli::x",
        ] {
            assert!(paths.contains(&expected), "{expected} is not in {paths:?}");
        }
        assert!(!paths.iter().any(|path| path.starts_with("tokio")));
        assert_eq!(found.iter().find(|named| named.path == "kache::cli::x").map(|named| named.line), Some(3));
    }

    #[test]
    fn files_are_modules() {
        for (file, module) in [
            ("src/lib.rs", "kache"),
            ("src/daemon/mod.rs", "kache::daemon"),
            ("src/bin/kached.rs", "bin::kached"),
            ("cas/src/disk/index.rs", "kache_cas::disk::index"),
        ] {
            assert_eq!(module_of(file), module);
        }
        assert!(is_below("std::fs::read", "std::fs") && !is_below("std::fsx", "std::fs"));
    }
}
