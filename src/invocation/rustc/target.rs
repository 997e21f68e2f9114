//! How linked files are called on a target.
//!
//! Only names that are known for certain: everything else is no name, and the call is passed
//! on where a linker would run.

use serde_json::Value;

/// How a target calls its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// What a program ends in.
    pub(super) program: String,
    /// What a shared library begins and ends with; none where other files come with it.
    pub(super) shared: Option<(String, String)>,
    /// What a static library begins and ends with.
    pub(super) archive: (String, String),
    /// Whether a linker's output comes alone: no `.pdb`, `.dSYM` or second file.
    pub(super) comes_alone: bool,
    /// Whether debugging information can be packed into a `.dwp` of its own.
    pub(super) packs_debuginfo: bool,
}

impl Names {
    fn elf() -> Names {
        Names {
            program: String::new(),
            shared: Some(("lib".into(), ".so".into())),
            archive: ("lib".into(), ".a".into()),
            comes_alone: true,
            packs_debuginfo: true,
        }
    }

    /// Those of a target that rustc knows.
    pub(super) fn of_triple(triple: &str) -> Option<Names> {
        let parts: Vec<&str> = triple.split('-').collect();
        let has = |name: &str| parts.iter().skip(1).any(|part| part.starts_with(name));
        let elf = Names::elf();
        if parts[0].starts_with("wasm") {
            return (!has("emscripten")).then(|| Names {
                program: ".wasm".into(),
                shared: Some((String::new(), ".wasm".into())),
                packs_debuginfo: false,
                ..elf
            });
        }
        if has("windows") {
            let is_gnu = has("gnu");
            let archive = if is_gnu { ("lib", ".a") } else { ("", ".lib") };
            return Some(Names {
                program: ".exe".into(),
                // An import library comes with it.
                shared: None,
                archive: (archive.0.into(), archive.1.into()),
                // With MSVC a `.pdb` does.
                comes_alone: is_gnu,
                packs_debuginfo: false,
            });
        }
        if has("apple") || has("darwin") {
            let shared = Some(("lib".into(), ".dylib".into()));
            // Debugging information goes to a `.dSYM` directory, or stays in object files.
            return Some(Names { shared, comes_alone: false, packs_debuginfo: false, ..elf });
        }
        let systems = [
            "linux",
            "freebsd",
            "netbsd",
            "openbsd",
            "dragonfly",
            "android",
            "illumos",
            "solaris",
            "fuchsia",
        ];
        systems.iter().any(|system| has(system)).then_some(elf)
    }

    /// Those of the machine that this is compiled for.
    pub(super) fn of_host() -> Option<Names> {
        if cfg!(target_os = "macos") {
            Names::of_triple("unknown-apple-darwin")
        } else if cfg!(windows) {
            Names::of_triple("unknown-pc-windows-msvc")
        } else {
            Names::of_triple("unknown-unknown-linux")
        }
    }

    /// Those that a description of a target states. What it leaves out is as rustc has it.
    pub(super) fn of_description(bytes: &[u8]) -> Option<Names> {
        let description: Value = serde_json::from_slice(bytes).ok()?;
        let description = description.as_object()?;
        let is_like = |what: &str| description.get(what).and_then(Value::as_bool).unwrap_or(false);
        let text = |key: &str, default: &str| match description.get(key) {
            None => Some(default.to_owned()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        let is_strange = ["is-like-windows", "is-like-msvc", "is-like-osx", "is-like-darwin", "is-like-wasm"];
        let is_plain = !is_strange.iter().any(|what| is_like(what));
        Some(Names {
            program: text("exe-suffix", "")?,
            shared: Some((text("dll-prefix", "lib")?, text("dll-suffix", ".so")?)),
            archive: (text("staticlib-prefix", "lib")?, text("staticlib-suffix", ".a")?),
            comes_alone: is_plain,
            packs_debuginfo: is_plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_08_targets_call_their_files_by_their_own_names() {
        for (triple, program, shared, archive) in [
            ("x86_64-unknown-linux-gnu", "", Some(("lib", ".so")), ("lib", ".a")),
            ("aarch64-unknown-linux-musl", "", Some(("lib", ".so")), ("lib", ".a")),
            ("wasm32-unknown-unknown", ".wasm", Some(("", ".wasm")), ("lib", ".a")),
            ("wasm32-wasip2", ".wasm", Some(("", ".wasm")), ("lib", ".a")),
            ("x86_64-pc-windows-gnu", ".exe", None, ("lib", ".a")),
            ("x86_64-pc-windows-gnullvm", ".exe", None, ("lib", ".a")),
            ("x86_64-pc-windows-msvc", ".exe", None, ("", ".lib")),
            ("aarch64-apple-darwin", "", Some(("lib", ".dylib")), ("lib", ".a")),
        ] {
            let names = Names::of_triple(triple).unwrap();
            assert_eq!(names.program, program, "{triple}");
            assert_eq!(names.shared, shared.map(|(a, b)| (a.to_owned(), b.to_owned())), "{triple}");
            assert_eq!(names.archive, (archive.0.to_owned(), archive.1.to_owned()), "{triple}");
        }
        assert_eq!(Names::of_triple("wasm32-unknown-emscripten"), None);
        assert_eq!(Names::of_triple("nvptx64-nvidia-cuda"), None);
    }

    #[test]
    fn key_16_a_described_target_says_so_itself() {
        let names = Names::of_description(br#"{"exe-suffix": ".elf", "dll-suffix": ".x"}"#).unwrap();
        assert_eq!(names.program, ".elf");
        assert_eq!(names.shared, Some(("lib".to_owned(), ".x".to_owned())));
        assert!(names.comes_alone);
        assert!(!Names::of_description(br#"{"is-like-msvc": true}"#).unwrap().comes_alone);
        assert_eq!(Names::of_description(b"[]"), None);
        assert_eq!(Names::of_description(br#"{"exe-suffix": 1}"#), None);
    }
}
