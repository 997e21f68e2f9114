//! Tests of the library in real programs, and of the records that they leave.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;
use crate::invocation::Environment;

/// The notes of `sh -c script` in this directory, and its output.
fn observed(dir: &Path, script: &str) -> (Vec<Note>, String) {
    let watch = Observer::new(dir).try_watch(None).unwrap();
    let said = run(dir, script, &watch);
    (parse(&watch.read().unwrap()).unwrap(), said)
}

fn run(dir: &Path, script: &str, watch: &Watch) -> String {
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(watch.variables())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn has(notes: &[Note], kind: NoteKind, outcome: NoteOutcome, path: &Path) -> bool {
    let path = path.to_str().unwrap().as_bytes();
    notes.iter().any(|note| (note.kind, note.outcome, &*note.name) == (kind, outcome, path))
}

#[test]
fn key_23_programs_and_their_children_are_observed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().canonicalize().unwrap();
    fs::write(dir.join("read"), "content").unwrap();
    fs::create_dir(dir.join("list")).unwrap();
    let (notes, said) =
        observed(&dir, "cat read; cat none; ls list; test -e asked; echo x > written; cd list; cat ../read");
    assert!(said.starts_with("contentcontent") && said.contains("none: No such file"), "{said}");
    let place = |name: &str| dir.join(name);
    assert!(has(&notes, NoteKind::Read, NoteOutcome::There, &place("read")), "{notes:?}");
    assert!(has(&notes, NoteKind::Read, NoteOutcome::Absent, &place("none")), "{notes:?}");
    assert!(has(&notes, NoteKind::Listed, NoteOutcome::There, &place("list")), "{notes:?}");
    assert!(has(&notes, NoteKind::Looked, NoteOutcome::Absent, &place("asked")), "{notes:?}");
    assert!(has(&notes, NoteKind::Written, NoteOutcome::There, &place("written")), "{notes:?}");
    // The path is relative to the directory that was the current one at that time.
    assert!(has(&notes, NoteKind::Read, NoteOutcome::There, &place("list/../read")), "{notes:?}");
    let started: Vec<_> = notes.iter().filter(|note| note.kind == NoteKind::Started).collect();
    assert!(started.len() >= 4, "sh, cat, ls: {started:?}");
    assert!(
        notes.iter().any(|note| note.kind == NoteKind::Loaded && note.name.ends_with(b"libc.so.6")),
        "{notes:?}"
    );
}

#[test]
fn key_06_variables_are_observed_with_their_values() {
    let home = tempfile::tempdir().unwrap();
    // `ls` reads both variables with `getenv`; the second one is not set.
    let (notes, _) = observed(home.path(), "QUOTING_STYLE=literal ls");
    let value = |name: &str| {
        let note = notes
            .iter()
            .find(|note| note.kind == NoteKind::Variable && note.name == name.as_bytes())
            .unwrap();
        (note.outcome, String::from_utf8(note.value.clone()).unwrap())
    };
    assert_eq!(value("QUOTING_STYLE"), (NoteOutcome::There, "literal".to_owned()));
    assert_eq!(value("LS_BLOCK_SIZE"), (NoteOutcome::Absent, String::new()));
}

#[test]
fn a_program_behaves_as_it_does_without_the_observer() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let script = "cat none; ls file/none; ls -d /dev/null ''; readlink none; mkdir file; env | sort";
    let (notes, said) = observed(home.path(), script);
    let output = Command::new("/bin/sh")
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(home.path())
        .output()
        .unwrap();
    let plain = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(said, plain);
    assert!(!notes.is_empty());
}

#[test]
fn a_program_without_a_record_runs_and_notes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let watch = Observer::new(home.path()).try_watch(None).unwrap();
    let preload = watch.variables().swap_remove(0);
    for record in [None, Some("/nowhere/at/all"), Some("/dev/null"), Some("/bin/sh")] {
        let mut command = Command::new("/bin/cat");
        command.arg("/dev/null").env(&preload.0, &preload.1);
        record.map(|record| command.env("__KACHE_RECORD", record));
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{record:?}: {output:?}");
    }
    assert_eq!(parse(&watch.read().unwrap()), Ok(Vec::new()));
}

#[test]
fn key_04_a_full_record_is_recognised() {
    let home = tempfile::tempdir().unwrap();
    let watch = Observer::new(home.path()).try_watch(None).unwrap();
    // Each iteration looks for a path of 4,000 bytes.
    let long = "x/".repeat(2000);
    let script = format!("i=0; while [ $i -lt 2300 ]; do [ -e {long} ]; i=$((i+1)); done; echo done");
    assert_eq!(run(home.path(), &script, &watch), "done\n");
    assert_eq!(parse(&watch.read().unwrap()), Err(RecordDamage::Full));
}

#[test]
fn the_users_own_libraries_stay_and_records_go() {
    let home = tempfile::tempdir().unwrap();
    let observer = Observer::new(home.path());
    let files = || fs::read_dir(home.path().join("observer")).unwrap().count();
    {
        let watch = observer.try_watch(Some("/their/own.so:/other.so".as_ref())).unwrap();
        let (name, value) = watch.variables().swap_remove(0);
        assert_eq!(name, "LD_PRELOAD");
        assert!(value.to_str().unwrap().ends_with(".so:/their/own.so:/other.so"), "{value:?}");
        assert_eq!(files(), 2);
    }
    assert_eq!(files(), 1, "the library");
    let others = observer.try_watch(None).unwrap();
    let mut died = Command::new("true").spawn().unwrap();
    died.wait().unwrap();
    fs::write(home.path().join(format!("observer/record-{}-0", died.id())), "").unwrap();
    assert_eq!(files(), 3, "a daemon was killed, and another process lives");
    drop(Observer::new(home.path()).try_watch(None).unwrap());
    assert_eq!(files(), 2, "what the one has left is gone, what the other has is there");
    assert!(others.read().is_ok());
    drop(others);
    // A damaged library is written again.
    let library = fs::read_dir(home.path().join("observer")).unwrap().next().unwrap().unwrap().path();
    fs::write(&library, "damaged").unwrap();
    let (notes, said) = observed(home.path(), "true");
    assert!(!notes.is_empty() && said.is_empty(), "{said}");
}

#[test]
fn key_23_a_library_that_cannot_be_loaded_from_the_cache_is_put_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    for name in ["a b", "a:b", "a$b", "a\nb"] {
        let dir = home.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("read"), "content").unwrap();
        check(&dir).unwrap();
        let (notes, said) = observed(&dir, "cat read");
        assert_eq!(said, "content");
        assert!(has(&notes, NoteKind::Read, NoteOutcome::There, &dir.join("read")), "{name:?}: {notes:?}");
    }
}

/// The programs here fail or print a warning if a library is loaded into them, as programs with an older C
/// library do.
#[test]
fn dmn_03_a_program_that_behaves_differently_with_the_library_is_not_observed() {
    let home = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(home.path().join("text"), format!("#!/bin/sh\n{text}\n")).unwrap();
        // Another process writes it, because a file that is open for writing cannot be executed.
        let mut install = Command::new("install");
        assert!(
            install.args(["-m", "755"]).arg(home.path().join("text")).arg(&path).status().unwrap().success()
        );
        path
    };
    let quiet = script("quiet", "echo 1.0");
    let ends = script("ends", "echo 1.0; ! grep -q /observer- /proc/$$/maps");
    let says = script("says", "echo 1.0; ! grep -q /observer- /proc/$$/maps || echo no >&2");
    let observer = Observer::new(home.path());
    let env: Environment = [("PATH", "/usr/bin:/bin")].into_iter().collect();
    let is_watched = |programs: &[&PathBuf]| {
        let programs: Vec<PathBuf> = programs.iter().map(|path| (*path).clone()).collect();
        match observer.watch(&programs, &env) {
            Watching::With(_) => Some(true),
            Watching::Failed(why) if why.contains("behaves differently") => Some(false),
            Watching::Without | Watching::Failed(_) => None,
        }
    };
    assert_eq!([is_watched(&[&quiet]), is_watched(&[&quiet])], [Some(true); 2]);
    for programs in [&[&quiet, &ends][..], &[&says], &[&ends]] {
        assert_eq!(is_watched(programs), Some(false));
    }
    assert_eq!(is_watched(&[&home.path().join("none")]), None);
    // The accesses of the trials are in no record of a compile.
    let Watching::With(watch) = observer.watch(&[quiet], &env) else { panic!("it is not affected") };
    assert_eq!(parse(&watch.read().unwrap()).unwrap(), []);
}

/// A program that does not answer because the machine is too busy is treated in the same way.
#[test]
fn key_04_a_program_that_did_not_answer_is_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let [program, interpreter] = ["program", "sh"].map(|name| home.path().join(name));
    fs::write(&program, format!("#!{}\necho 1.0\n", interpreter.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let env: Environment = [("PATH", "/usr/bin:/bin")].into_iter().collect();
    let watch = |observer: &Observer| observer.watch(std::slice::from_ref(&program), &env);
    let [patient, other] = [(); 2].map(|()| Observer::new(home.path()));
    for observer in [&patient, &other, &other] {
        let watching = watch(observer);
        assert!(matches!(&watching, Watching::Failed(why) if why.contains("No such file")), "{watching:?}");
    }
    // After three trials it counts as one that cannot be observed.
    let is_rejected =
        |watching| matches!(watching, Watching::Failed(why) if why.contains("behaves differently"));
    assert!(is_rejected(watch(&other)));
    std::os::unix::fs::symlink("/bin/sh", &interpreter).unwrap();
    assert!(matches!(watch(&patient), Watching::With(_)));
    assert!(is_rejected(watch(&other)));
}

#[test]
fn key_04_a_record_that_cannot_be_created_is_a_failure_of_this_compile_only() {
    let home = tempfile::tempdir().unwrap();
    let observer = Observer::new(home.path());
    fs::write(home.path().join("observer"), "").unwrap();
    assert!(matches!(observer.watch(&[], &Environment::default()), Watching::Failed(_)));
    fs::remove_file(home.path().join("observer")).unwrap();
    assert!(matches!(observer.watch(&[], &Environment::default()), Watching::With(_)));
}
