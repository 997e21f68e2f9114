//! Tests with command lines as cargo, clippy, people and build scripts write them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::invocation::{Call, Reason, Word};

const LIB: &str = "--crate-name util --edition=2021 util/src/lib.rs --error-format=json \
    --json=diagnostic-rendered-ansi,artifacts,future-incompat --diagnostic-width=80 --crate-type lib \
    --emit=dep-info,metadata,link -C embed-bitcode=no -C debuginfo=2 --cfg feature=\"a\" \
    --check-cfg cfg(docsrs,test) -C metadata=0011 -C extra-filename=-0011 --out-dir /a/target/debug/deps \
    -C incremental=/a/target/debug/incremental -L dependency=/a/target/debug/deps \
    --extern x=/a/target/debug/deps/libx-1.rmeta --extern proc_macro --cap-lints allow \
    -L native=/a/target/debug/build/y/out -l static:+whole-archive=z:w";

fn call(line: &str) -> Call {
    let argv = std::iter::once("/t/bin/rustc").chain(line.split_whitespace()).map(OsString::from).collect();
    Call { argv, cwd: PathBuf::from("/a"), ..Call::default() }
}

fn parse_with(call: &Call, files: &[(&str, &str)]) -> ParsedCall {
    let files: HashMap<PathBuf, Vec<u8>> =
        files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
    parse(call, &|path: &Path| files.get(path).cloned().ok_or_else(|| io::Error::other("not there")))
}

fn compile(line: &str) -> RustcInvocation {
    match parse_with(&call(line), &[]) {
        ParsedCall::Compile(rustc) => *rustc,
        other => panic!("{line}: {other:?}"),
    }
}

fn bypass(line: &str) -> (Reason, String) {
    match parse_with(&call(line), &[]) {
        ParsedCall::Bypass(bypass) => (bypass.reason, bypass.detail),
        other => panic!("{line}: {other:?}"),
    }
}

fn names(rustc: &RustcInvocation) -> Vec<String> {
    rustc.outputs.iter().map(|output| output.path.display().to_string()).collect()
}

#[test]
fn key_10_a_library_as_cargo_compiles_it() {
    let rustc = compile(LIB);
    assert_eq!(rustc.crate_name, "util");
    assert_eq!(rustc.crate_types, [CrateType::Rlib]);
    assert_eq!(rustc.source, CrateSource::File("util/src/lib.rs".into()));
    assert_eq!(rustc.incremental, Some("/a/target/debug/incremental".into()));
    assert!(rustc.presentation.is_json && rustc.presentation.announces_artifacts);
    assert_eq!(rustc.presentation.options.len(), 3);
    assert_eq!(rustc.externs[0].path, Some("/a/target/debug/deps/libx-1.rmeta".into()));
    assert_eq!((rustc.externs[1].name.as_str(), &rustc.externs[1].path), ("proc_macro", &None));
    assert_eq!(
        rustc.searches[1],
        SearchPath { kind: SearchKind::Native, path: "/a/target/debug/build/y/out".into() }
    );
    let library = &rustc.native_libraries[0];
    assert_eq!(library.kind.as_deref(), Some("static"));
    assert_eq!((library.modifiers.as_str(), library.name.as_str()), ("+whole-archive", "z"));
    assert_eq!(
        names(&rustc),
        [
            "/a/target/debug/deps/util-0011.d",
            "/a/target/debug/deps/libutil-0011.rmeta",
            "/a/target/debug/deps/libutil-0011.rlib"
        ]
    );
}

#[test]
fn key_14_a_native_library_may_be_renamed() {
    for (given, kind, modifiers, name, rename) in [
        ("z", None, "", "z", None),
        ("z:y", None, "", "z", Some("y")),
        ("static=z:y", Some("static"), "", "z", Some("y")),
        ("static:+whole-archive,-bundle=z:y", Some("static"), "+whole-archive,-bundle", "z", Some("y")),
        ("static:+verbatim=z:liby.lib", Some("static"), "+verbatim", "z", Some("liby.lib")),
    ] {
        let rustc = compile(&format!("--crate-name n --crate-type lib --emit=link s.rs -l {given}"));
        let library = &rustc.native_libraries[0];
        assert_eq!((library.kind.as_deref(), &*library.modifiers), (kind, modifiers), "{given}");
        assert_eq!((&*library.name, library.rename.as_deref()), (name, rename), "{given}");
        assert_eq!(library.file_name(), rename.unwrap_or(name), "{given}");
        // The compiler and the key get the option as it was given.
        let words: Vec<_> = rustc.words.iter().map(|word| word.argument().into_string().unwrap()).collect();
        assert!(words.ends_with(&["-l".to_owned(), given.to_owned()]), "{words:?}");
        assert!(rustc.words.contains(&Word::Plain(given.into())), "{given}");
    }
}

#[test]
fn key_08_outputs_are_named_as_rustc_names_them() {
    let out = "--crate-name n s.rs --out-dir o -C extra-filename=-1";
    for (line, expected) in [
        ("--crate-type bin --emit=dep-info,link", &["o/n-1.d", "o/n-1"][..]),
        ("--crate-type lib --emit=dep-info,metadata", &["o/n-1.d", "o/libn-1.rmeta"]),
        ("--crate-type bin --emit=dep-info,metadata", &["o/n-1.d", "o/libn-1.rmeta"]),
        ("--crate-type proc-macro --emit=dep-info,link", &["o/n-1.d", "o/libn-1.so"]),
        ("--crate-type dylib --crate-type rlib --emit=link", &["o/libn-1.so", "o/libn-1.rlib"]),
        ("--crate-type cdylib,staticlib", &["o/libn-1.so", "o/libn-1.a"]),
        ("--test --emit=dep-info,link", &["o/n-1.d", "o/n-1"]),
        ("--test --crate-type lib --emit=link", &["o/n-1"]),
        ("--crate-type lib --emit=link --emit asm,mir", &["o/n-1.mir", "o/n-1.s", "o/libn-1.rlib"]),
        ("--crate-type lib --emit=llvm-ir,llvm-bc,obj", &["o/n-1.o", "o/n-1.bc", "o/n-1.ll"]),
        ("--crate-type lib --emit=metadata=/x/m,link=y.rlib", &["/x/m", "y.rlib"]),
        ("--crate-type bin --target wasm32-unknown-unknown", &["o/n-1.wasm"]),
        ("--crate-type cdylib --target wasm32-unknown-unknown", &["o/n-1.wasm"]),
        ("--crate-type bin --target x86_64-pc-windows-gnu", &["o/n-1.exe"]),
        ("--crate-type lib --target x86_64-pc-windows-msvc", &["o/libn-1.rlib"]),
        ("--crate-type lib --target nvptx64-nvidia-cuda", &["o/libn-1.rlib"]),
    ] {
        assert_eq!(names(&compile(&format!("{out} {line}"))), expected, "{line}");
    }
    if cfg!(target_os = "linux") {
        let packed = compile(&format!("{out} --crate-type bin -C split-debuginfo=packed"));
        assert_eq!(names(&packed), ["o/n-1", "o/n-1.dwp"]);
        assert_eq!(packed.outputs[1].kind, DeclaredOutputKind::Debug);
    }
    assert_eq!(names(&compile("--crate-name n s.rs --crate-type bin -o x/y")), ["x/y"]);
    assert_eq!(names(&compile("--crate-name n s.rs --crate-type bin")), ["n"]);
}

#[test]
fn key_08_options_that_write_other_files_are_refused_by_name() {
    let out = "--crate-name n s.rs --out-dir o --crate-type lib";
    for (line, detail) in [
        ("-C save-temps", "save-temps: intermediate files have other names in every run"),
        (
            "-g -C split-debuginfo=unpacked",
            "split-debuginfo=unpacked: it writes a file for each codegen unit",
        ),
        ("--emit=asm -C codegen-units=4", "an output for each codegen unit"),
        ("--crate-type dylib --crate-type cdylib", "two outputs with one name"),
        ("--emit=link=-", "output on standard output"),
        ("-o x", "`-o` with several outputs"),
        (
            "-C passes=insert-gcov-profiling",
            "passes=insert-gcov-profiling: a pass may read or write files of its own",
        ),
        (
            "-C llvm-args=-load=/x/y.so",
            "llvm-args=-load=/x/y.so: an argument that may let LLVM read or write a file",
        ),
        (
            "-C llvm-args=-sanitizer-coverage-allowlist=names",
            "llvm-args=-sanitizer-coverage-allowlist=names: an argument that may let LLVM read or write a file",
        ),
        ("-Zno-link", "-Z no-link: it stops before the outputs are made"),
        (
            "-Zcrate_attr=crate_type=\"bin\"",
            "crate-attr=crate_type=\"bin\": an attribute that names the crate or its type decides the outputs",
        ),
        ("--env-set X=1", "--env-set: it sets a variable that a lookup does not see"),
        (
            "-C dlltool=x --target x86_64-pc-windows-gnu",
            "dlltool: it names a program whose content is not known",
        ),
        (
            "--crate-type bin -C linker-plugin-lto=/x/y.so",
            "linker-plugin-lto: a plugin loads libraries whose content is not known",
        ),
    ] {
        assert_eq!(
            bypass(&format!("{out} {line}")),
            (Reason::UncacheableOption, detail.to_owned()),
            "{line}"
        );
    }
    for line in [
        "--crate-type dylib --target x86_64-pc-windows-gnu",
        "--crate-type bin --target x86_64-pc-windows-msvc",
    ] {
        assert_eq!(bypass(&format!("{out} {line}")).0, Reason::CrateType, "{line}");
    }
    for line in [
        "-C save-temps=no -C llvm-args=--inline-threshold=5 -C rpath=off",
        "-g --emit=metadata -C split-debuginfo=unpacked",
        // Without debugging information, there is nothing to split.
        "-C split-debuginfo=unpacked",
        "-g -C split-debuginfo=unpacked -C debuginfo=0",
        "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4",
        // These options have no effect on a library.
        "-C dlltool=x -C linker-plugin-lto=/x/y.so -C rpath",
    ] {
        assert!(!compile(&format!("{out} {line}")).keeps_paths, "{line}");
    }
}

#[test]
fn key_10_an_unknown_option_makes_the_call_a_bypass_that_names_it() {
    for (line, reason, detail) in [
        ("--crate-name n s.rs --frobnicate=3", Reason::UnknownOption, "--frobnicate"),
        ("--crate-name n s.rs -C frob=1", Reason::UnknownOption, "-C frob"),
        ("--crate-name n s.rs -Zfrob", Reason::UnknownOption, "-Z frob"),
        ("--crate-name n s.rs -Q", Reason::UnknownOption, "-Q"),
        ("--crate-name n s.rs --test=yes", Reason::UnknownOption, "--test=yes"),
        ("--crate-name n a.rs b.rs", Reason::UnknownOption, "b.rs"),
        ("--crate-name n s.rs --emit=thin-link-bitcode", Reason::UnknownEmit, "--emit thin-link-bitcode"),
        ("--crate-name n s.rs --crate-type sdylib", Reason::CrateType, "--crate-type sdylib"),
        ("--crate-name n s.rs", Reason::CrateType, "no `--crate-type`"),
        ("s.rs --crate-type lib", Reason::UncacheableOption, "no `--crate-name`"),
        ("--crate-name n s.rs --json=timings --crate-type lib", Reason::UnknownOption, "--json timings"),
        ("--crate-name n - --crate-type lib", Reason::Stdin, "n"),
        ("@missing", Reason::ArgFile, "`missing`: not there"),
        ("--crate-name", Reason::UnknownOption, "--crate-name"),
    ] {
        assert_eq!(bypass(line), (reason, detail.to_owned()), "{line}");
    }
    let mut other = call(LIB);
    other.argv[0] = "/usr/bin/mrustc".into();
    let ParsedCall::Bypass(bypass) = parse_with(&other, &[]) else { panic!("mrustc") };
    assert_eq!(bypass.reason, Reason::UnknownCompiler);
}

#[test]
fn key_08_without_a_crate_type_the_source_decides() {
    let line = "--crate-name n s.rs --cfg test -C extra-filename=-0011 --out-dir /o";
    for (source, is_program) in [
        ("fn main() {}", true),
        ("#![crate_type = \"lib\"]", false),
        ("#![cfg_attr(test, crate_type = \"lib\")] fn main() {}", false),
    ] {
        match parse_with(&call(line), &[("/a/s.rs", source)]) {
            ParsedCall::Compile(rustc) => {
                assert_eq!((names(&rustc), is_program), (vec!["/o/n-0011".into()], true));
            }
            ParsedCall::Bypass(bypass) => assert_eq!((bypass.reason, is_program), (Reason::CrateType, false)),
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn key_09_native_is_recognised_in_every_spelling() {
    let line = "--crate-name n s.rs --crate-type lib";
    for flags in
        ["-C target-cpu=native", "-Ctarget_cpu=native", "--codegen=target-cpu=native", "-Ztune-cpu=native"]
    {
        assert!(compile(&format!("{line} {flags}")).is_native, "{flags}");
    }
    assert!(!compile(&format!("{line} -C target-cpu=x86-64-v3")).is_native);
    // Another codegen backend looks at the processor in its own way.
    for flags in ["-Ctarget-cpu=native -Zcodegen-backend=x", "-Zcodegen-backend=x -Ctarget-cpu=native"] {
        let (reason, detail) = bypass(&format!("{line} {flags}"));
        assert_eq!((reason, &*detail), (Reason::UncacheableOption, "`native` with a codegen backend"));
    }
    assert_eq!(bypass(&format!("{line} -C target-cpu=help")).0, Reason::Question);
}

#[test]
fn key_11_argument_files_are_expanded_line_by_line() {
    let lines = "--crate-name\nn\n--cfg\nfeature=\"a b\"\ns.rs\n--crate-type=lib\n";
    let parsed = parse_with(&call("@args"), &[("/a/args", lines)]);
    let ParsedCall::Compile(rustc) = parsed else { panic!("{parsed:?}") };
    assert!(rustc.words.contains(&Word::Plain("feature=\"a b\"".into())));
    let cfg = |bytes: usize| format!("--cfg\n{}\n", "a".repeat(bytes));
    let long = format!("{lines}{}", cfg(8 << 20));
    assert!(matches!(
        parse_with(&call("@args"), &[("/a/args", &format!("{lines}{}", cfg(7 << 20)))]),
        ParsedCall::Compile(_)
    ));
    for (lines, why) in [
        ("@more\n", "names another argument file"),
        ("--frob\n", "--frob"),
        (&*long, "more than 8 MiB of arguments"),
    ] {
        let ParsedCall::Bypass(bypass) = parse_with(&call("@args"), &[("/a/args", lines)]) else {
            panic!("{lines}")
        };
        assert!(bypass.detail.contains(why), "{bypass}");
    }
}

#[test]
fn key_18_options_that_keep_paths_in_outputs_are_recognised() {
    let line = "--crate-name n s.rs --crate-type lib";
    for (flags, keeps) in [
        ("", false),
        ("-C instrument-coverage", true),
        ("-C instrument-coverage=all", true),
        ("-C instrument-coverage -C instrument-coverage=off", false),
        ("-Zdebuginfo-compression=zlib", true),
        ("-Zdebuginfo-compression=none", false),
        ("-Clink-arg=-Wl,--compress-debug-sections=zstd", true),
        ("-Clink-args=-gz", true),
        ("-Clink-arg=-Wl,--compress-debug-sections=none", false),
        ("-Crpath", false),
        ("-Crpath --crate-type bin", true),
        ("-Crpath -Crpath=no --crate-type bin", false),
        ("--remap-path-scope=all", false),
        ("--remap-path-scope=macro,debuginfo", true),
    ] {
        assert_eq!(compile(&format!("{line} {flags}")).keeps_paths, keeps, "{flags}");
    }
}

#[test]
fn clippy_is_called_with_the_rustc_that_cargo_names() {
    let mut clippy =
        call("/t/bin/rustc --crate-name n s.rs --crate-type lib --emit=dep-info,metadata -Wclippy::all");
    clippy.argv[0] = "/t/bin/clippy-driver".into();
    let ParsedCall::Compile(rustc) = parse_with(&clippy, &[]) else { panic!("clippy") };
    assert_eq!(rustc.driver_kind, DriverKind::Clippy);
    assert_eq!(
        (rustc.driver.to_str(), rustc.rustc.to_str()),
        (Some("/t/bin/clippy-driver"), Some("/t/bin/rustc"))
    );
    assert_eq!(rustc.words.first().map(Word::argument), Some("/t/bin/rustc".into()));
}

#[test]
fn questions_are_recognised() {
    for line in [
        "-vV",
        "--version --verbose",
        "--print=sysroot",
        "- --crate-name ___ --print=file-names --crate-type bin --crate-type rlib --print=sysroot --print=cfg -Wwarnings",
    ] {
        let ParsedCall::Probe(probe) = parse_with(&call(line), &[]) else { panic!("{line}") };
        assert!(probe.is_question && probe.rustc.outputs.is_empty(), "{line}");
    }
    let ParsedCall::Probe(probe) = parse_with(&call("--print cfg -Ctarget-cpu=native"), &[]) else {
        panic!("the processor of this machine")
    };
    assert!(probe.is_question && probe.rustc.is_native);
    for line in
        ["--help", "--explain E0308", "--print target-cpus", "-C help", "-W help", "", "--print cfg s.rs"]
    {
        assert_eq!(bypass(line).0, Reason::Question, "{line}");
    }
    compile("--crate-name n s.rs --crate-type staticlib --print native-static-libs");
}

fn script(mut call: Call) -> Call {
    call.env = [("OUT_DIR", "/a/target/debug/build/x/out")].into_iter().collect();
    call
}

#[test]
fn rst_10_trials_of_build_scripts_are_recognised() {
    let autocfg = "--crate-name autocfg_0123456789abcdef_0 --crate-type=lib --out-dir /a/target/debug/build/x/out --emit=llvm-ir -";
    let mut stdin = script(call(autocfg));
    stdin.stdin = Some("pub fn f() { let _ = u8::MAX; }".into());
    let ParsedCall::Probe(probe) = parse_with(&stdin, &[]) else { panic!("autocfg") };
    assert!(!probe.is_question);
    assert_eq!(probe.random_name.as_deref(), Some("autocfg_0123456789abcdef_0"));

    let mut rustix =
        script(call("--crate-type=rlib --emit=metadata -o /a/target/debug/build/x/out/rustix_test -"));
    for (source, name) in [("fn f() {}", Some("rust_out")), ("#![crate_name = \"x\"] fn f() {}", None)] {
        rustix.stdin = Some(source.into());
        let parsed = parse_with(&rustix, &[]);
        let found =
            if let ParsedCall::Probe(probe) = &parsed { Some(&*probe.rustc.crate_name) } else { None };
        assert_eq!(found, name, "{parsed:?}");
    }

    let anyhow = "--edition=2018 --crate-name=anyhow --crate-type=lib --emit=dep-info,metadata --cap-lints=allow \
        --out-dir /a/target/debug/build/x/out/probe --cfg=anyhow_build_probe src/nightly.rs";
    for (source, is_probe) in [
        (
            "// A file: include this.\nuse std::path::PathBuf;\nmod x { }\nconst _: Option<&str> = option_env!(\"RUSTC_BOOTSTRAP\");",
            true,
        ),
        ("mod other;", false),
        ("pub mod r#other ;", false),
        ("include!(\"x.rs\");", false),
        ("const _: &str = env!(\"HOME\");", false),
        ("#[path = \"x.rs\"] pub mod x { }", false),
        ("#[link(name = \"native\", kind = \"static\")] extern \"C\" { }", false),
        ("#[cfg_attr(unix, link (name = \"native\"))] extern \"C\" { }", false),
        ("#[link_section = \".text\"] pub fn blink() { }", true),
    ] {
        let parsed = parse_with(&script(call(anyhow)), &[("/a/src/nightly.rs", source)]);
        assert_eq!(matches!(parsed, ParsedCall::Probe(_)), is_probe, "{source}: {parsed:?}");
    }
    for (more, is_probe) in [
        ("-L native=lib", true),
        ("-L native=lib -l static=native", false),
        ("-lnative", false),
        // `extern crate` finds crates there.
        ("-L lib", false),
        ("-L dependency=lib", false),
    ] {
        let parsed = parse_with(&script(call(&format!("{anyhow} {more}"))), &[("/a/src/nightly.rs", "")]);
        assert_eq!(matches!(parsed, ParsedCall::Probe(_)), is_probe, "{more}: {parsed:?}");
    }
    let parsed = parse_with(&call(anyhow), &[("/a/src/nightly.rs", "")]);
    assert!(matches!(parsed, ParsedCall::Compile(_)), "cargo's own: {parsed:?}");
}
