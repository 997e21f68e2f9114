//! A compiler call that can be moved to another checkout.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::invocation::{Call, Environment};
use crate::roles::{Form, Roots};

/// The variable with the file descriptors of cargo's jobserver, which is in no key.
const JOBSERVER: &str = "CARGO_MAKEFLAGS";

/// The variable that cargo sets to the call's directory, whatever its value was before.
const DIRECTORY: &str = "PWD";

/// A variable that has another value in a call than in cargo's own environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedVariable {
    /// The name of the environment variable.
    pub name: Vec<u8>,
    /// The value in cargo's own environment; `None` if the variable is not set there.
    pub before: Option<Vec<u8>>,
    /// The value in the call, with stand-ins; `None` if the variable is not set there.
    pub value: Option<Vec<u8>>,
}

/// A call with stand-ins for the paths of its checkout. Of the environment it holds only the
/// variables that cargo changed for the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortableCall {
    /// The command line; the program comes first.
    pub argv: Vec<Vec<u8>>,
    /// The working directory of the call.
    pub cwd: Vec<u8>,
    /// The variables that cargo changed.
    pub variables: Vec<ChangedVariable>,
}

impl PortableCall {
    /// Makes a call portable. `cargo_env` is cargo's own environment. `None` if the call reads standard
    /// input, or contains a text that looks like a stand-in.
    pub fn of(call: &Call, cargo_env: &Environment, roots: &Roots) -> Option<PortableCall> {
        if call.stdin.is_some() {
            return None;
        }
        let portable = |text: &OsStr| roots.generalise(text.as_bytes(), Form::Value);
        let is_new = |name: &OsStr, value: &OsStr| cargo_env.get(name) != Some(value) && name != JOBSERVER;
        let before = |name: &OsStr| cargo_env.get(name).map(|value| value.as_bytes().to_vec());
        let set = call.env.iter().filter(|(name, value)| is_new(name, value));
        let set = set.map(|(name, value)| {
            let value = Some(portable(value)?);
            Some(ChangedVariable { name: name.as_bytes().to_vec(), before: before(name), value })
        });
        // Variables that cargo removes for the call have to be removed in the other checkout, too.
        let unset = cargo_env.iter().filter(|(name, _)| call.env.get(name).is_none());
        let unset = unset.map(|(name, _)| {
            Some(ChangedVariable { name: name.as_bytes().to_vec(), before: before(name), value: None })
        });
        Some(PortableCall {
            argv: call.argv.iter().map(|word| portable(word)).collect::<Option<_>>()?,
            cwd: portable(call.cwd.as_os_str())?,
            variables: set.chain(unset).collect::<Option<_>>()?,
        })
    }

    /// Makes the call that another cargo would make in the checkout with these roots. `question` is
    /// that cargo's question for the compiler's version, whose environment shows cargo's own.
    ///
    /// Cargo may derive the new value of a variable from the old one. So the variable must have the same
    /// old value here, or the new value already; otherwise the result is `None`.
    pub fn localise(&self, question: &Call, roots: &Roots) -> Option<Call> {
        let local = |text: &[u8]| roots.localise(text, Form::Value).map(OsString::from_vec);
        // Start from that cargo's own environment and make the same changes, so that variables which cargo passes
        // on unchanged have the values of the new build.
        let mut env = question.env.clone();
        for ChangedVariable { name, before, value } in &self.variables {
            let name = OsStr::from_bytes(name);
            let value = value.as_deref().map(|value| local(value).ok_or(())).transpose().ok()?;
            let current = env.get(name);
            let is_before = current.map(OsStr::as_bytes) == before.as_deref();
            if !is_before && current != value.as_deref() && name != DIRECTORY {
                return None;
            }
            match value {
                Some(value) => env.set(name.to_owned(), value),
                None => env.unset(name),
            }
        }
        Some(Call {
            argv: self.argv.iter().map(|word| local(word)).collect::<Option<_>>()?,
            cwd: PathBuf::from(local(&self.cwd)?),
            env,
            umask: question.umask,
            stdin: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::{Role, Root};

    fn roots(ws: &str) -> Roots {
        let root = |role, dir: String| Root { role, dir: PathBuf::from(dir) };
        let cargo = root(Role::Cargo, "/home/a/.cargo".to_owned());
        let ws = format!("/home/a/{ws}");
        Roots::new([root(Role::Target, format!("{ws}/target")), root(Role::Workspace, ws), cargo])
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn a_call_is_the_one_that_cargo_would_make_in_its_own_environment() {
        let call = Call {
            argv: [
                "/t/bin/rustc",
                "/home/a/.cargo/registry/src/x/lib.rs",
                "dependency=/home/a/one/target/debug/deps",
            ]
            .map(OsString::from)
            .to_vec(),
            cwd: PathBuf::from("/home/a/.cargo/registry/src/x"),
            env: environment(&[
                ("CARGO_MAKEFLAGS", "-j --jobserver-auth=8,11"),
                ("CARGO_PKG_NAME", "x"),
                ("PWD", "/home/a/.cargo/registry/src/x"),
                ("LD_LIBRARY_PATH", "/home/a/one/target/debug/deps:/t/lib"),
                ("LANG", "C"),
            ]),
            umask: 0o22,
            stdin: None,
        };
        let before = environment(&[("LANG", "C"), ("GONE", "1")]);
        let portable = PortableCall::of(&call, &before, &roots("one")).unwrap();
        let asks = |env: &[(&str, &str)]| Call { env: environment(env), umask: 0o77, ..Call::default() };
        let question = asks(&[("LANG", "de"), ("GONE", "1"), ("OTHER", "3"), ("PWD", "/home/a/two")]);
        let found = portable.localise(&question, &roots("two")).unwrap();
        let expected = Call {
            argv: [
                "/t/bin/rustc",
                "/home/a/.cargo/registry/src/x/lib.rs",
                "dependency=/home/a/two/target/debug/deps",
            ]
            .map(OsString::from)
            .to_vec(),
            env: environment(&[
                ("CARGO_PKG_NAME", "x"),
                ("PWD", "/home/a/.cargo/registry/src/x"),
                ("LD_LIBRARY_PATH", "/home/a/two/target/debug/deps:/t/lib"),
                ("LANG", "de"),
                ("OTHER", "3"),
            ]),
            umask: 0o77,
            ..call
        };
        assert_eq!(found, expected);
        for env in [&[("GONE", "2")][..], &[("GONE", "1"), ("CARGO_PKG_NAME", "y")]] {
            assert_eq!(portable.localise(&asks(env), &roots("two")), None, "another old value: {env:?}");
        }
    }

    #[test]
    fn a_call_that_contains_a_stand_in_is_not_portable() {
        let with =
            |argv: &[&str]| Call { argv: argv.iter().map(OsString::from).collect(), ..Call::default() };
        let none = Environment::default();
        assert_eq!(PortableCall::of(&with(&["rustc", "/kache/ws/x"]), &none, &roots("one")), None);
        assert!(PortableCall::of(&with(&["rustc"]), &none, &roots("one")).is_some());
        let with_input = Call { stdin: Some(bytes::Bytes::new()), ..with(&["rustc"]) };
        assert_eq!(PortableCall::of(&with_input, &none, &roots("one")), None);
    }
}
