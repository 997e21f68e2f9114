//! The names of linked files on a target.
//!
//! It answers only for targets whose naming is known for certain. For other targets, a call that links is a
//! bypass.

use serde_json::Value;

/// The prefixes and suffixes of the files that a target's linker makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileNaming {
    /// The suffix of a program.
    pub(super) program: String,
    /// The prefix and suffix of a shared library; `None` if the linker also makes an import library.
    pub(super) shared: Option<(String, String)>,
    /// The prefix and suffix of a static library.
    pub(super) archive: (String, String),
    /// Whether the linker makes exactly one file, without a `.pdb`, `.dSYM` or other file beside it.
    pub(super) links_one_file: bool,
    /// Whether packed debugging information is a `.dwp` file beside the output.
    pub(super) has_dwp: bool,
}

impl FileNaming {
    fn elf() -> FileNaming {
        FileNaming {
            program: String::new(),
            shared: Some(("lib".into(), ".so".into())),
            archive: ("lib".into(), ".a".into()),
            links_one_file: true,
            has_dwp: true,
        }
    }

    /// Returns the naming of a built-in target of rustc; `None` if it is not known here.
    pub(super) fn of_triple(triple: &str) -> Option<FileNaming> {
        let parts: Vec<&str> = triple.split('-').collect();
        let has = |name: &str| parts.iter().skip(1).any(|part| part.starts_with(name));
        let elf = FileNaming::elf();
        if parts[0].starts_with("wasm") {
            return (!has("emscripten")).then(|| FileNaming {
                program: ".wasm".into(),
                shared: Some((String::new(), ".wasm".into())),
                has_dwp: false,
                ..elf
            });
        }
        if has("windows") {
            let is_gnu = has("gnu");
            let archive = if is_gnu { ("lib", ".a") } else { ("", ".lib") };
            return Some(FileNaming {
                program: ".exe".into(),
                // The linker also makes an import library.
                shared: None,
                archive: (archive.0.into(), archive.1.into()),
                // MSVC's linker also makes a `.pdb`.
                links_one_file: is_gnu,
                has_dwp: false,
            });
        }
        if has("apple") || has("darwin") {
            let shared = Some(("lib".into(), ".dylib".into()));
            // Debugging information goes to a `.dSYM` directory, or stays in object files.
            return Some(FileNaming { shared, links_one_file: false, has_dwp: false, ..elf });
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

    /// Returns the naming of the system that kache itself was compiled for.
    pub(super) fn of_host() -> Option<FileNaming> {
        if cfg!(target_os = "macos") {
            FileNaming::of_triple("unknown-apple-darwin")
        } else if cfg!(windows) {
            FileNaming::of_triple("unknown-pc-windows-msvc")
        } else {
            FileNaming::of_triple("unknown-unknown-linux")
        }
    }

    /// Returns the naming that a target description (JSON) states, with rustc's defaults for what it leaves
    /// out; `None` if the description cannot be read.
    pub(super) fn of_description(bytes: &[u8]) -> Option<FileNaming> {
        let description: Value = serde_json::from_slice(bytes).ok()?;
        let description = description.as_object()?;
        let is_like = |what: &str| description.get(what).and_then(Value::as_bool).unwrap_or(false);
        let text = |key: &str, default: &str| match description.get(key) {
            None => Some(default.to_owned()),
            Some(value) => value.as_str().map(str::to_owned),
        };
        let other_kinds =
            ["is-like-windows", "is-like-msvc", "is-like-osx", "is-like-darwin", "is-like-wasm"];
        let is_plain = !other_kinds.iter().any(|what| is_like(what));
        Some(FileNaming {
            program: text("exe-suffix", "")?,
            shared: Some((text("dll-prefix", "lib")?, text("dll-suffix", ".so")?)),
            archive: (text("staticlib-prefix", "lib")?, text("staticlib-suffix", ".a")?),
            links_one_file: is_plain,
            has_dwp: is_plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_08_each_target_has_its_own_file_names() {
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
            let names = FileNaming::of_triple(triple).unwrap();
            assert_eq!(names.program, program, "{triple}");
            assert_eq!(names.shared, shared.map(|(a, b)| (a.to_owned(), b.to_owned())), "{triple}");
            assert_eq!(names.archive, (archive.0.to_owned(), archive.1.to_owned()), "{triple}");
        }
        assert_eq!(FileNaming::of_triple("wasm32-unknown-emscripten"), None);
        assert_eq!(FileNaming::of_triple("nvptx64-nvidia-cuda"), None);
    }

    #[test]
    fn key_16_a_target_description_decides_the_file_names() {
        let names = FileNaming::of_description(br#"{"exe-suffix": ".elf", "dll-suffix": ".x"}"#).unwrap();
        assert_eq!(names.program, ".elf");
        assert_eq!(names.shared, Some(("lib".to_owned(), ".x".to_owned())));
        assert!(names.links_one_file);
        assert!(!FileNaming::of_description(br#"{"is-like-msvc": true}"#).unwrap().links_one_file);
        assert_eq!(FileNaming::of_description(b"[]"), None);
        assert_eq!(FileNaming::of_description(br#"{"exe-suffix": 1}"#), None);
    }
}
