//! A call of cargo's that can be made in another checkout.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::invocation::{Call, Environment};
use crate::roles::{Form, Roots};

/// The descriptors by which processes of one build share its processors; no key counts them.
const JOBSERVER: &str = "CARGO_MAKEFLAGS";

/// Cargo sets it to the call's directory, whatever it was.
const DIRECTORY: &str = "PWD";

/// A variable that cargo changes for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What it is called.
    pub name: Vec<u8>,
    /// What it is to cargo itself.
    pub before: Option<Vec<u8>>,
    /// What it is set to; `None` where it is taken away.
    pub value: Option<Vec<u8>>,
}

/// A call with stand-ins for the paths of one checkout, and of its environment only what cargo
/// changed in its own for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portable {
    /// The program first.
    pub argv: Vec<Vec<u8>>,
    /// The directory.
    pub cwd: Vec<u8>,
    /// By name.
    pub variables: Vec<Changed>,
}

impl Portable {
    /// From a call of a cargo with this environment; `None` where it holds what looks like a
    /// stand-in, or an input of its own.
    pub fn of(call: &Call, cargos: &Environment, roots: &Roots) -> Option<Portable> {
        if call.stdin.is_some() {
            return None;
        }
        let general = |text: &OsStr| roots.generalise(text.as_bytes(), Form::Value);
        let is_new = |name: &OsStr, value: &OsStr| cargos.get(name) != Some(value) && name != JOBSERVER;
        let before = |name: &OsStr| cargos.get(name).map(|value| value.as_bytes().to_vec());
        let set = call.env.iter().filter(|(name, value)| is_new(name, value));
        let set = set.map(|(name, value)| {
            let value = Some(general(value)?);
            Some(Changed { name: name.as_bytes().to_vec(), before: before(name), value })
        });
        let gone = cargos.iter().filter(|(name, _)| call.env.get(name).is_none());
        let gone = gone.map(|(name, _)| {
            Some(Changed { name: name.as_bytes().to_vec(), before: before(name), value: None })
        });
        Some(Portable {
            argv: call.argv.iter().map(|word| general(word)).collect::<Option<_>>()?,
            cwd: general(call.cwd.as_os_str())?,
            variables: set.chain(gone).collect::<Option<_>>()?,
        })
    }

    /// The call that the cargo which asked this would make in the checkout with these roots.
    /// `None` where that cannot be told: what cargo makes of a variable follows from what that
    /// is to cargo, so it must be the same, or be set already when it asks.
    pub fn call(&self, question: &Call, roots: &Roots) -> Option<Call> {
        let local = |text: &[u8]| roots.localise(text, Form::Value).map(OsString::from_vec);
        let mut env = question.env.clone();
        for Changed { name, before, value } in &self.variables {
            let name = OsStr::from_bytes(name);
            let value = value.as_deref().map(|value| local(value).ok_or(())).transpose().ok()?;
            let asked = env.get(name);
            let is_before = asked.map(OsStr::as_bytes) == before.as_deref();
            if !is_before && asked != value.as_deref() && name != DIRECTORY {
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
    fn a_call_is_what_cargo_would_make_of_its_own_environment() {
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
        let portable = Portable::of(&call, &before, &roots("one")).unwrap();
        let asks = |env: &[(&str, &str)]| Call { env: environment(env), umask: 0o77, ..Call::default() };
        let question = asks(&[("LANG", "de"), ("GONE", "1"), ("OTHER", "3"), ("PWD", "/home/a/two")]);
        let found = portable.call(&question, &roots("two")).unwrap();
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
            assert_eq!(portable.call(&asks(env), &roots("two")), None, "to cargo it is another: {env:?}");
        }
    }

    #[test]
    fn what_looks_like_a_stand_in_is_not_carried_elsewhere() {
        let with =
            |argv: &[&str]| Call { argv: argv.iter().map(OsString::from).collect(), ..Call::default() };
        let none = Environment::default();
        assert_eq!(Portable::of(&with(&["rustc", "/kache/ws/x"]), &none, &roots("one")), None);
        assert!(Portable::of(&with(&["rustc"]), &none, &roots("one")).is_some());
        let with_input = Call { stdin: Some(bytes::Bytes::new()), ..with(&["rustc"]) };
        assert_eq!(Portable::of(&with_input, &none, &roots("one")), None);
    }
}
