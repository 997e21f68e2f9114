//! `kache.toml` beside a package's `Cargo.toml`: inputs of its compiles that no compiler reports.
//!
//! Pure: from text to declarations. Declarations can only add to a key (KEY-21). A mistake
//! anywhere in the file is an error, and then the package is not cached (KEY-04).

use std::ffi::OsStr;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::compile::{VariableName, variables};
use super::diagnostic::{ConfigError, ConfigErrors, Site, position};
use super::glob::PathGlob;
use super::layer::shorten;
use super::value::{Value, ValueKind};

/// The name of the file. It has no dot in front because it belongs to the package's sources and
/// is published with them, unlike `.kache.toml`, which belongs to a checkout.
pub const DECLARATION_FILE: &str = "kache.toml";

/// The declarations of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Globs for files, relative to the directory of `kache.toml`; they may begin with `..`.
    pub extra_inputs: Vec<PathGlob>,
    env_vars: Vec<VariableName>,
}

impl Declared {
    /// Reads the text of the file at `path`, or returns all mistakes in it.
    pub fn read(text: &str, path: &Path) -> Result<Declared, ConfigErrors> {
        let wrong = |offset: usize, what: String, remedy: &str| {
            let (line, column) = position(text, offset);
            let site = Site::File { path: path.to_owned(), line, column };
            ConfigError { site, what, remedy: remedy.to_owned() }
        };
        let table = DeTable::parse(text).map_err(|error| {
            let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            let offset = error.span().unwrap_or(0..0).start;
            ConfigErrors::from(wrong(offset, what, "write `extra_inputs = [\"data/**\"]`"))
        })?;
        let mut declared = Declared::default();
        let mut errors = Vec::new();
        for (name, value) in table.get_ref() {
            let offset = value.span().start;
            match name.get_ref().as_ref() {
                "extra_inputs" => match globs(value.get_ref()) {
                    Some(globs) => declared.extra_inputs = globs,
                    None => errors.push(wrong(
                        offset,
                        "`extra_inputs` is not a list of relative globs".to_owned(),
                        "write for example [\"migrations/**/*.sql\", \"../schema.json\"]",
                    )),
                },
                "key_env_vars" => match names(value.get_ref()) {
                    Some(names) => declared.env_vars = names,
                    None => errors.push(wrong(
                        offset,
                        "`key_env_vars` is not a list of variable names".to_owned(),
                        "write for example [\"MY_FLAG\", \"MY_APP_*\"]",
                    )),
                },
                other => errors.push(wrong(
                    name.span().start,
                    format!("unknown key `{}`", shorten(other)),
                    "this file may only have `extra_inputs` and `key_env_vars`; other keys belong in `.kache.toml`",
                )),
            }
        }
        if errors.is_empty() { Ok(declared) } else { Err(ConfigErrors(errors)) }
    }

    /// Returns the variables that enter the key, like [`super::KeySettings::variables`].
    pub fn variables<'a>(
        &self,
        environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>,
    ) -> Vec<(String, Option<Vec<u8>>)> {
        variables(&self.env_vars, environment)
    }
}

fn texts<'a>(value: &'a DeValue<'_>) -> Option<Vec<&'a str>> {
    let DeValue::Array(items) = value else { return None };
    items.iter().map(|item| item.get_ref().as_str()).collect()
}

fn globs(value: &DeValue<'_>) -> Option<Vec<PathGlob>> {
    let relative = |text: &&str| !text.starts_with(['/', '~']);
    texts(value)?.into_iter().map(|text| Some(text).filter(relative).and_then(PathGlob::new)).collect()
}

fn names(value: &DeValue<'_>) -> Option<Vec<VariableName>> {
    match ValueKind::VariableNames.read_list(texts(value)?)? {
        Value::Names(names) => Some(names.into_iter().map(VariableName::new).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Declared, String> {
        Declared::read(text, Path::new("/p/kache.toml")).map_err(|errors| errors.to_string())
    }

    #[test]
    fn key_21_files_and_variables_are_declared() {
        let declared =
            read("extra_inputs = [\"m/**/*.sql\", \"../s.json\"]\nkey_env_vars = [\"B_*\", \"A\"]\n")
                .unwrap();
        assert!(declared.extra_inputs[0].matches(Path::new("m/1/x.sql")));
        assert!(declared.extra_inputs[1].matches(Path::new("../s.json")));
        let environment = [("B_1", "x"), ("C", "y"), ("B_", "")];
        let found =
            declared.variables(environment.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value))));
        let expected = [
            ("A".to_owned(), None),
            ("B_".to_owned(), Some(vec![])),
            ("B_1".to_owned(), Some(b"x".to_vec())),
        ];
        assert_eq!(found, expected);
        assert_eq!(read("").unwrap(), Declared::default());
    }

    #[test]
    fn key_04_a_mistake_in_the_declarations_is_an_error() {
        for (text, expected) in [
            ("extra_input = []", "/p/kache.toml:1:1: unknown key `extra_input`"),
            ("\nextra_inputs = \"a\"", "/p/kache.toml:2:16: `extra_inputs` is not a list of relative globs"),
            (
                "extra_inputs = [\"/etc/passwd\"]",
                "/p/kache.toml:1:16: `extra_inputs` is not a list of relative globs",
            ),
            ("extra_inputs = [\"[\"]", "/p/kache.toml:1:16: `extra_inputs` is not a list of relative globs"),
            ("key_env_vars = [\"*\"]", "/p/kache.toml:1:16: `key_env_vars` is not a list of variable names"),
            ("extra_inputs = [", "/p/kache.toml:1:17: this is not TOML"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected) && error.contains("\nhint: "), "{text}: {error}");
        }
    }
}
