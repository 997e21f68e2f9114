//! Tests of the inputs of linked outputs, with real files, the real compiler and the real linker.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use kache_cas::{Digest, DigestFunction};
use tempfile::TempDir;

use super::testing::{parse, real_sysroot, real_toolchain};
use super::*;
use crate::compiler::rustc::invocation::RustcInvocation;
use crate::compiler::{GatherSettings, RootSettings};
use crate::inputs::testing::{call, environment, fake_toolchain, store_stamp, write};
use crate::inputs::*;
use crate::invocation::{Bypass, Call, Reason, Word};

/// A checkout with a target directory.
struct Checkout {
    dir: TempDir,
    call: Call,
    world: DiskWorld,
    toolchain: Toolchain,
}

impl Checkout {
    fn new() -> Checkout {
        let dir = TempDir::new().unwrap();
        let mut call = call(dir.path());
        let path = Command::new("sh").args(["-c", "printf %s \"$PATH\""]).output().unwrap().stdout;
        call.env = environment([("PATH", String::from_utf8(path).unwrap())]);
        write(dir.path(), "target/debug/.cargo-lock", b"");
        for source in ["src/lib.rs", "src/main.rs"] {
            write(dir.path(), source, b"fn main() {}");
        }
        Checkout { dir, call, world: DiskWorld::new(DigestFunction::Blake3), toolchain: fake_toolchain() }
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    fn gather(&self, rustc: &RustcInvocation) -> Result<BTreeMap<String, Input>, Bypass> {
        let roots = roots(rustc, &self.call, &RootSettings::default());
        let settings = GatherSettings::default();
        let inputs = gather(rustc, &self.call, &roots, self.toolchain.clone(), &self.world, &settings)?;
        Ok(inputs.files.into_iter().map(|input| (input.path.to_string(), input)).collect())
    }

    fn refusal(&self, rustc: &RustcInvocation) -> String {
        let bypass = self.gather(rustc).unwrap_err();
        assert_eq!(bypass.reason, Reason::UnknownLinkInput);
        bypass.detail
    }

    /// Returns the command line of a library as cargo writes it.
    fn library(&self, name: &str, hash: &str, kind: &str, externs: &[&str]) -> RustcInvocation {
        let emit = if kind == "proc-macro" { "dep-info,link" } else { "dep-info,metadata,link" };
        self.compile(name, hash, kind, emit, "src/lib.rs", externs, &[])
    }

    fn program(&self, externs: &[&str], more: &[&str]) -> RustcInvocation {
        self.compile("app", "0", "bin", "dep-info,link", "src/main.rs", externs, more)
    }

    #[expect(clippy::too_many_arguments, reason = "a command line has that many parts")]
    fn compile(
        &self,
        name: &str,
        hash: &str,
        kind: &str,
        emit: &str,
        source: &str,
        externs: &[&str],
        more: &[&str],
    ) -> RustcInvocation {
        let deps = self.path("target/debug/deps").display().to_string();
        let mut argv =
            vec!["rustc".to_owned(), "--crate-name".to_owned(), name.to_owned(), source.to_owned()];
        argv.extend(["--crate-type".to_owned(), kind.to_owned(), format!("--emit={emit}")]);
        argv.extend(["-C".to_owned(), format!("extra-filename=-{hash}"), format!("--out-dir={deps}")]);
        argv.extend(["-L".to_owned(), format!("dependency={deps}")]);
        for file in externs {
            let name = file.trim_start_matches("lib").split('-').next().unwrap();
            argv.extend(["--extern".to_owned(), format!("{name}={deps}/{file}")]);
        }
        argv.extend(more.iter().map(|&word| word.to_owned()));
        parse(&argv.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Creates a crate as if it had been compiled through kache.
    fn compiled(&self, name: &str, hash: &str, kind: &str, externs: &[&str]) {
        let rustc = self.library(name, hash, kind, externs);
        // An error about the linker does not matter here.
        drop(self.gather(&rustc));
        let made = gather::made_crate(&rustc, &self.call).unwrap();
        let extensions: &[&str] = if kind == "proc-macro" { &["so"] } else { &["rmeta", "rlib"] };
        for extension in extensions {
            let bytes = format!("{name} {extension}");
            let path = write(
                self.dir.path(),
                &format!("target/debug/deps/lib{name}-{hash}.{extension}"),
                bytes.as_bytes(),
            );
            let digest = Digest::of(DigestFunction::Blake3, bytes.as_bytes());
            self.world.note_placed(&path, digest, store_stamp(&path));
            self.world.note_crate(&made, &path, &digest);
        }
    }
}

fn names_of(inputs: &BTreeMap<String, Input>, kind: InputKind) -> Vec<&str> {
    inputs
        .iter()
        .filter(|(_, input)| input.kind == kind)
        .map(|(path, _)| path.rsplit('/').next().unwrap())
        .collect()
}

#[test]
fn key_14_a_program_counts_every_crate_that_it_reaches_and_no_other() {
    let checkout = Checkout::new();
    checkout.compiled("base", "1", "lib", &[]);
    checkout.compiled("syn", "2", "lib", &[]);
    checkout.compiled("pm", "3", "proc-macro", &["libsyn-2.rlib"]);
    checkout.compiled("middle", "4", "lib", &["libbase-1.rmeta", "libpm-3.so"]);
    checkout.compiled("unrelated", "5", "lib", &[]);
    let program = checkout.program(&["libmiddle-4.rlib"], &[]);
    let inputs = checkout.gather(&program).unwrap();
    assert_eq!(names_of(&inputs, InputKind::Extern), ["libmiddle-4.rlib"]);
    assert_eq!(names_of(&inputs, InputKind::Reachable), ["libbase-1.rlib", "libpm-3.so"]);
    // If the content of a crate changes that is not named, the program's inputs change.
    write(checkout.dir.path(), "target/debug/deps/libbase-1.rlib", b"other");
    let path = checkout.path("target/debug/deps/libbase-1.rlib");
    checkout.compiled("base", "1", "lib", &[]);
    assert_eq!(checkout.gather(&program).unwrap(), inputs);
    let digest = Digest::of(DigestFunction::Blake3, b"other");
    write(checkout.dir.path(), "target/debug/deps/libbase-1.rlib", b"other");
    checkout.world.note_placed(&path, digest, store_stamp(&path));
    let changed = checkout.gather(&program).unwrap();
    assert_eq!(changed["out/debug/deps/libbase-1.rlib"].digest, digest);
    // A static library contains them, too.
    let archive =
        checkout.compile("app", "0", "staticlib", "dep-info,link", "src/lib.rs", &["libmiddle-4.rlib"], &[]);
    let inputs = checkout.gather(&archive).unwrap();
    assert_eq!(names_of(&inputs, InputKind::Reachable), ["libbase-1.rlib", "libpm-3.so"]);
}

#[test]
fn key_14_if_the_uses_of_a_crate_are_not_known_all_crates_count() {
    let checkout = Checkout::new();
    checkout.compiled("base", "1", "lib", &[]);
    checkout.compiled("unrelated", "5", "lib", &[]);
    write(checkout.dir.path(), "target/debug/deps/libunknown-6.rlib", b"compiled by others");
    let inputs = checkout.gather(&checkout.program(&["libunknown-6.rlib"], &[])).unwrap();
    assert_eq!(names_of(&inputs, InputKind::Reachable), ["libbase-1.rlib", "libunrelated-5.rlib"]);
}

#[test]
fn key_14_the_next_daemon_still_knows_the_uses_of_crates() {
    let mut checkout = Checkout::new();
    let snapshot = checkout.path("memos");
    checkout.world = DiskWorld::open(DigestFunction::Blake3, &snapshot);
    checkout.compiled("base", "1", "lib", &[]);
    checkout.compiled("middle", "4", "lib", &["libbase-1.rmeta"]);
    checkout.compiled("unrelated", "5", "lib", &[]);
    let program = checkout.program(&["libmiddle-4.rlib"], &[]);
    let inputs = checkout.gather(&program).unwrap();
    checkout.world.save().unwrap();
    checkout.world = DiskWorld::open(DigestFunction::Blake3, &snapshot);
    assert_eq!(checkout.gather(&program).unwrap(), inputs);
}

#[test]
fn key_14_of_native_libraries_those_are_inputs_that_the_linker_finds() {
    let checkout = Checkout::new();
    for (file, bytes) in
        [("one/libx.a", "a1"), ("two/libx.a", "a2"), ("two/libx.so", "s2"), ("two/odd.name", "v")]
    {
        write(checkout.dir.path(), &format!("natives/{file}"), bytes.as_bytes());
    }
    // These directories are not of the build, so only named libraries count.
    let elsewhere = TempDir::new().unwrap();
    fs::rename(checkout.path("natives"), elsewhere.path().join("natives")).unwrap();
    let (one, two) = (elsewhere.path().join("natives/one"), elsewhere.path().join("natives/two"));
    let linked = |dirs: &[&Path], library: &str| {
        let dirs = dirs.iter().flat_map(|dir| ["-L".to_owned(), format!("native={}", dir.display())]);
        let words: Vec<String> = dirs.chain(["-l".to_owned(), library.to_owned()]).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let inputs = checkout.gather(&checkout.program(&[], &words))?;
        let natives = inputs.into_values().filter(|input| input.kind == InputKind::Native);
        let below_natives = |input: Input| {
            let path = input.path.to_string();
            path.split_once("natives/").unwrap().1.to_owned()
        };
        Ok::<_, Bypass>(natives.map(below_natives).collect::<Vec<_>>())
    };
    assert_eq!(linked(&[&one, &two], "static=x").unwrap(), ["one/libx.a"]);
    assert_eq!(linked(&[&two, &one], "static=x").unwrap(), ["two/libx.a", "two/libx.so"]);
    assert_eq!(linked(&[&one, &two], "dylib=x").unwrap(), ["one/libx.a"]);
    assert_eq!(linked(&[&two], "x").unwrap(), ["two/libx.a", "two/libx.so"]);
    assert_eq!(linked(&[&two], "static:+verbatim=odd.name").unwrap(), ["two/odd.name"]);
    assert_eq!(linked(&[&two], "static=y:x").unwrap(), ["two/libx.a", "two/libx.so"]);
    assert_eq!(linked(&[&two], "static:+verbatim=x:odd.name").unwrap(), ["two/odd.name"]);
    assert_eq!(linked(&[&one], "x:y").unwrap_err().reason, Reason::UnknownLinkInput);
    assert_eq!(linked(&[&one], "y").unwrap_err().reason, Reason::UnknownLinkInput);
    // The directories of the system come last.
    assert!(linked(&[&one], "dylib=m").is_ok());
}

#[test]
fn key_14_a_library_bundles_its_static_libraries() {
    let checkout = Checkout::new();
    write(checkout.dir.path(), "target/debug/build/p-1/out/libx.a", b"x");
    write(checkout.dir.path(), "target/debug/build/p-1/out/libasked_for_by_source.a", b"y");
    let dir = checkout.path("target/debug/build/p-1/out").display().to_string();
    let search = format!("native={dir}");
    let words = ["-L", &search, "-l", "static=x"];
    let library = |emit| checkout.compile("p", "1", "lib", emit, "src/lib.rs", &[], &words);
    let natives = |checkout: &Checkout, emit| {
        let inputs = checkout.gather(&library(emit)).unwrap();
        names_of(&inputs, InputKind::Native).iter().map(|&name| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(natives(&checkout, "dep-info,metadata,link"), ["libx.a"]);
    assert_eq!(natives(&checkout, "dep-info,metadata"), [""; 0], "a check bundles nothing");
    let mut own = Checkout { call: checkout.call.clone(), ..Checkout::new() };
    own.call.env = environment([("OUT_DIR", dir.as_str())]);
    let inputs = own.gather(&library("dep-info,metadata,link")).unwrap();
    assert_eq!(names_of(&inputs, InputKind::Native), ["libasked_for_by_source.a", "libx.a"]);
    let renamed = ["-L", &search, "-l", "static=x:asked_for_by_source"];
    let rustc = checkout.compile("p", "1", "lib", "dep-info,metadata,link", "src/lib.rs", &[], &renamed);
    let inputs = checkout.gather(&rustc).unwrap();
    assert_eq!(names_of(&inputs, InputKind::Native), ["libasked_for_by_source.a"]);
    fs::remove_file(checkout.path("target/debug/build/p-1/out/libx.a")).unwrap();
    assert!(checkout.refusal(&library("dep-info,link")).contains('x'));
}

#[test]
fn key_14_a_native_library_of_a_dependency_counts() {
    let checkout = Checkout::new();
    let dir = TempDir::new().unwrap();
    let native = write(dir.path(), "libz9.so", b"\x7fELF");
    let search = format!("native={}", dir.path().display());
    let sys = ["-L", &search, "-l", "z9"];
    let rustc = checkout.compile("zsys", "1", "lib", "dep-info,metadata,link", "src/lib.rs", &[], &sys);
    checkout.gather(&rustc).unwrap();
    let rlib = write(checkout.dir.path(), "target/debug/deps/libzsys-1.rlib", b"zsys");
    checkout.world.note_placed(&rlib, Digest::of(DigestFunction::Blake3, b"zsys"), store_stamp(&rlib));
    let program = checkout.program(&["libzsys-1.rlib"], &["-L", &search]);
    let inputs = checkout.gather(&program).unwrap();
    assert_eq!(names_of(&inputs, InputKind::Native), ["libz9.so"]);
    fs::remove_file(native).unwrap();
    assert!(checkout.refusal(&program).contains("z9"));
}

#[test]
fn key_14_files_that_a_library_refers_to_count_without_being_observed() {
    let checkout = Checkout::new();
    for name in ["lib/libreal.a", "lib/libother.a", "objects/member.o", "libcwd.a", "lib/deep.ld"] {
        write(checkout.dir.path(), name, name.as_bytes());
    }
    // A header of a thin archive, its table of names, and one member.
    let member =
        |name: &str, size: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 0);
    let names = "../objects/member.o/\n";
    let thin = format!("!<thin>\n{}{names}\n{}", member("//", names.len()), member("/0", 1));
    write(checkout.dir.path(), "lib/libthin.a", thin.as_bytes());
    write(checkout.dir.path(), "lib/libscript.so", b"INPUT(-lreal libcwd.a AS_NEEDED(deep.ld))");
    write(checkout.dir.path(), "lib/deep.ld", b"GROUP ( -l:libother.a )");
    let natives = |name: &str| {
        let program = checkout.program(&[], &["-L", "native=lib", "-l", name]);
        let inputs = checkout.gather(&program).unwrap();
        names_of(&inputs, InputKind::Native).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // All libraries in the directory count in any case; members and files elsewhere only by reference.
    assert!(natives("thin").contains(&"member.o".to_owned()));
    let script = natives("script");
    assert!(["deep.ld", "libcwd.a"].iter().all(|name| script.contains(&(*name).to_owned())), "{script:?}");
    // A library that refers to itself is refused.
    write(checkout.dir.path(), "lib/liba1.so", b"INPUT(libb1.so)");
    write(checkout.dir.path(), "lib/libb1.so", b"INPUT(liba1.so)");
    let circle = checkout.program(&[], &["-L", "native=lib", "-l", "a1"]);
    assert!(checkout.refusal(&circle).contains("refers to itself through other libraries"));
}

#[test]
fn key_15_the_linker_and_the_files_that_it_always_links_count() {
    let checkout = Checkout::new();
    let program = checkout.program(&[], &[]);
    let inputs = checkout.gather(&program).unwrap();
    let names = names_of(&inputs, InputKind::LinkToolchain);
    for expected in ["cc", "collect2", "ld", "crti.o", "crtbeginS.o", "Scrt1.o", "libc.so.6", "libgcc.a"] {
        assert!(names.contains(&expected), "{expected} is not in {names:?}");
    }
    // `libgcc_s.so` is a script that names this file, and linkers search for it in the call's directory and in
    // those of `-L` first. It may be a script itself.
    if names.contains(&"libgcc_s.so") {
        let outside = tempfile::tempdir().unwrap();
        let other = write(outside.path(), "other/real.so", b"");
        let script = format!("INPUT({})", other.display());
        let searching = checkout.program(&[], &["-L", outside.path().to_str().unwrap()]);
        for (dir, program) in [(checkout.dir.path(), &program), (outside.path(), &searching)] {
            let path = write(dir, "libgcc_s.so.1", script.as_bytes());
            let natives = checkout.gather(program).unwrap();
            let names = BTreeSet::from_iter(names_of(&natives, InputKind::Native));
            assert_eq!(names, BTreeSet::from(["real.so", "libgcc_s.so.1"]), "{path:?}");
            fs::remove_file(path).unwrap();
        }
        fs::create_dir(checkout.dir.path().join("libgcc_s.so.1")).unwrap();
        assert!(checkout.gather(&program).unwrap_err().detail.contains("it is a directory"));
        fs::remove_dir(checkout.dir.path().join("libgcc_s.so.1")).unwrap();
    }
    // A check needs no linker.
    let check = checkout.compile("app", "0", "bin", "dep-info,metadata", "src/main.rs", &[], &[]);
    assert_eq!(names_of(&checkout.gather(&check).unwrap(), InputKind::LinkToolchain), [""; 0]);
    // The second time, no program is asked.
    let asked = questions_asked();
    assert_eq!(checkout.gather(&program).unwrap(), inputs);
    assert_eq!(questions_asked(), asked);
}

#[test]
fn key_15_the_linker_is_found_in_the_path_of_the_call() {
    let mut checkout = Checkout::new();
    let before = checkout.gather(&checkout.program(&[], &[])).unwrap();
    let real = fs::canonicalize("/usr/bin/cc").unwrap();
    let mut patched = fs::read(real).unwrap();
    patched.push(0);
    let cc = write(checkout.dir.path(), "bin/cc", &patched);
    fs::set_permissions(&cc, fs::Permissions::from_mode(0o755)).unwrap();
    let path =
        [checkout.path("bin").as_os_str(), checkout.call.env.get("PATH").unwrap()].join(OsStr::new(":"));
    checkout.call.env = environment([("PATH", path)]);
    let after = checkout.gather(&checkout.program(&[], &[])).unwrap();
    assert_ne!(after, before);
    assert!(after.contains_key("ws/bin/cc"));
    // A linker that is given by its path needs no `PATH`.
    let named = format!("linker={}", cc.display());
    assert!(checkout.gather(&checkout.program(&[], &["-C", &named])).unwrap().contains_key("ws/bin/cc"));
    // A script counts by its content; the files that it reads are observed.
    write(checkout.dir.path(), "bin/cc", b"#!/bin/sh\nexec /usr/bin/cc \"$@\"\n");
    assert!(is_script(&cc) && !is_script(Path::new("/usr/bin/cc")));
    assert_ne!(checkout.gather(&checkout.program(&[], &[])).unwrap(), after);
    write(checkout.dir.path(), "bin/cc", b"#!/bin/sh\nexit 1\n");
    assert!(checkout.refusal(&checkout.program(&[], &[])).contains("linker"));
    checkout.call.env = environment([("PATH", "/nowhere")]);
    assert!(checkout.refusal(&checkout.program(&[], &[])).contains("`cc`"));
}

#[test]
fn key_15_a_linker_that_the_call_chooses_counts() {
    let checkout = Checkout::new();
    let chosen = |name: &str| checkout.program(&[], &["-C", &format!("link-arg=-fuse-ld={name}")]);
    let inputs = checkout.gather(&chosen("bfd")).unwrap();
    assert!(names_of(&inputs, InputKind::LinkToolchain).contains(&"ld.bfd"));
    assert!(checkout.refusal(&chosen("none_such")).contains("none_such"));
    let flavor = checkout.program(&[], &["-C", "linker-flavor=ld"]);
    assert!(checkout.refusal(&flavor).contains("flavor"));
    let foreign = checkout.program(&[], &["--target", "sparcv9-sun-solaris"]);
    assert!(checkout.refusal(&foreign).contains("sparcv9"));
}

#[test]
fn key_15_files_that_linker_arguments_name_are_inputs() {
    let checkout = Checkout::new();
    for (name, text) in [
        ("versions.map", "{ global: *; };"),
        ("extra.o", "o"),
        ("more.txt", "-Wl,--dynamic-list=list.txt extra.o"),
        ("list.txt", "{ };"),
        ("lds/memory.x", "MEMORY { }\n"),
        ("lds/link.x", "INCLUDE memory.x\nSECTIONS { }\n"),
    ] {
        write(checkout.dir.path(), name, text.as_bytes());
    }
    let linked = |words: &[&str]| {
        let words: Vec<String> =
            words.iter().flat_map(|word| ["-C".to_owned(), format!("link-arg={word}")]).collect();
        checkout.gather(&checkout.program(&[], &words.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let has = |words: &[&str], expected: &[&str]| {
        let inputs = linked(words).unwrap();
        for name in expected {
            assert!(inputs.contains_key(*name), "{words:?} names {name}");
        }
    };
    has(&["-Wl,--version-script=versions.map"], &["ws/versions.map"]);
    has(&["extra.o"], &["ws/extra.o"]);
    has(&["@more.txt"], &["ws/more.txt", "ws/list.txt", "ws/extra.o"]);
    has(&["-Llds", "-Tlink.x"], &["ws/lds/link.x", "ws/lds/memory.x"]);
    has(&["-Wl,-T,lds/link.x", "-Llds"], &["ws/lds/link.x", "ws/lds/memory.x"]);
    for missing in [&["@none.txt"] as &[&str], &["-Tnone.x"], &["-lnone_such"], &["-Tlds/link.x"]] {
        assert_eq!(linked(missing).unwrap_err().reason, Reason::UnknownLinkInput, "{missing:?}");
    }
    let before = linked(&["@more.txt"]).unwrap();
    write(checkout.dir.path(), "list.txt", b"{ a; };");
    assert_ne!(linked(&["@more.txt"]).unwrap(), before);
}

#[test]
fn key_10_arguments_that_make_a_linker_write_other_files_are_refused() {
    let checkout = Checkout::new();
    let linked = |words: &[&str]| {
        let words: Vec<String> =
            words.iter().flat_map(|word| ["-C".to_owned(), format!("link-arg={word}")]).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        checkout.gather(&checkout.program(&[], &words))
    };
    write(checkout.dir.path(), "more.txt", b"-Wl,--gc-sections -Wl,-Map=x.map");
    for words in [
        &["-Wl,-Map=x.map"][..],
        &["-Wl,-Map,x.map"],
        &["-Xlinker", "-Map", "-Xlinker", "x.map"],
        &["-Wl,--gc-sections,--Map=x.map"],
        &["-Wl,--dependency-file=x.d"],
        &["-Wl,--reproduce=x.tar"],
        &["-Wl,-plugin-opt=cache-dir=x"],
        &["-save-temps"],
        &["-march=native"],
        &["@more.txt"],
    ] {
        let refused = linked(words).unwrap_err();
        assert_eq!(refused.reason, Reason::UncacheableOption, "{words:?}: {refused:?}");
    }
    for words in [&["-Wl,--gc-sections"][..], &["-march=x86-64-v3"], &["-Wl,-O1,--no-map-whole-files"]] {
        linked(words).unwrap();
    }
}

/// Returns the dependencies of a make rule.
fn dependencies(rule: &str) -> Vec<PathBuf> {
    let rule = rule.split("\n\n").next().unwrap().replace("\\\n", " ");
    let (_, words) = rule.split_once(':').unwrap();
    words.split_whitespace().map(PathBuf::from).collect()
}

static LINKERS: LazyLock<Vec<&str>> = LazyLock::new(|| vec!["lld", "bfd"]);

/// The linkers themselves list the files that they have read. Each of these is an input, part of the
/// toolchain, or an object that the compiler made for this link.
#[test]
fn key_15_every_file_that_a_linker_reads_is_an_input() {
    let mut checkout = Checkout::new();
    checkout.toolchain = real_toolchain(&checkout.world);
    let (mut inputs_seen, sysroot) = (0, real_sysroot().canonicalize().unwrap());
    for linker in LINKERS.iter() {
        let rule = checkout.path("rule.d");
        let chosen = format!("link-arg=-fuse-ld={linker}");
        let program = checkout.program(&[], &["-C", &chosen, "-l", "dylib=m"]);
        fs::create_dir_all(checkout.path("target/debug/deps")).unwrap();
        let arguments: Vec<OsString> = program.words.iter().map(Word::argument).collect();
        let mut command = Command::new(sysroot.join("bin/rustc"));
        // kache would refuse this argument, because it makes the linker write a file.
        command.args(arguments).arg(format!("-Clink-arg=-Wl,--dependency-file={}", rule.display()));
        assert!(command.current_dir(checkout.dir.path()).status().unwrap().success());
        let inputs: Vec<PathBuf> = checkout
            .gather(&program)
            .unwrap()
            .into_keys()
            .map(|path| PathBuf::from(path.strip_prefix("abs").map_or_else(|| path.clone(), str::to_owned)))
            .filter_map(|path| path.canonicalize().ok())
            .collect();
        for read in dependencies(&fs::read_to_string(&rule).unwrap()) {
            let read = match read.canonicalize() {
                Ok(read) => read,
                // The objects of the compiler are already removed.
                Err(_) => continue,
            };
            if read.starts_with(&sysroot) || read.starts_with(checkout.path("target")) {
                continue;
            }
            inputs_seen += 1;
            assert!(inputs.contains(&read), "{linker} reads {}", read.display());
        }
    }
    assert!(inputs_seen > 10, "{inputs_seen}");
}
