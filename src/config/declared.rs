//! `kache.toml`, beside a package's `Cargo.toml`: what its compiles depend on and no
//! compiler reports.
//!
//! Pure: text in, declarations out. What is declared only ever adds to the key (KEY-21). A
//! file that cannot be understood makes the package uncacheable (KEY-04), so nothing in it
//! is skipped.

use std::ffi::OsStr;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::compile::{VariableName, variables};
use super::diagnostic::{ConfigError, ConfigErrors, Site, position};
use super::glob::PathGlob;
use super::layer::shorten;
use super::value::{Kind, Value};

/// The file's name. Without a dot: it belongs to the package's sources and is published with
/// them, unlike `.kache.toml`, which configures whoever builds.
pub const DECLARATION_FILE: &str = "kache.toml";

/// What a package declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Globs for files, relative to the file's directory; `..` may stand in front.
    pub extra_inputs: Vec<PathGlob>,
    env_vars: Vec<VariableName>,
}

impl Declared {
    /// Reads the text of the file at `path`, or says everything that is wrong with it.
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
                        "`extra_inputs` is no list of relative globs".to_owned(),
                        "write such as [\"migrations/**/*.sql\", \"../schema.json\"]",
                    )),
                },
                "key_env_vars" => match names(value.get_ref()) {
                    Some(names) => declared.env_vars = names,
                    None => errors.push(wrong(
                        offset,
                        "`key_env_vars` is no list of names".to_owned(),
                        "write such as [\"MY_FLAG\", \"MY_APP_*\"]",
                    )),
                },
                other => errors.push(wrong(
                    name.span().start,
                    format!("there is no key `{}` here", shorten(other)),
                    "`extra_inputs` and `key_env_vars` are all there is; everything else belongs into `.kache.toml`",
                )),
            }
        }
        if errors.is_empty() { Ok(declared) } else { Err(ConfigErrors(errors)) }
    }

    /// The variables that enter the key, as [`super::KeySettings::variables`] gives them.
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
    match Kind::VariableNames.read_list(texts(value)?)? {
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
    fn key_04_what_is_not_understood_is_refused() {
        for (text, expected) in [
            ("extra_input = []", "/p/kache.toml:1:1: there is no key `extra_input` here"),
            ("\nextra_inputs = \"a\"", "/p/kache.toml:2:16: `extra_inputs` is no list of relative globs"),
            (
                "extra_inputs = [\"/etc/passwd\"]",
                "/p/kache.toml:1:16: `extra_inputs` is no list of relative globs",
            ),
            ("extra_inputs = [\"[\"]", "/p/kache.toml:1:16: `extra_inputs` is no list of relative globs"),
            ("key_env_vars = [\"*\"]", "/p/kache.toml:1:16: `key_env_vars` is no list of names"),
            ("extra_inputs = [", "/p/kache.toml:1:17: this is not TOML"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected) && error.contains("\nhint: "), "{text}: {error}");
        }
    }
}
