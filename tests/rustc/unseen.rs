//! Reads that are hard to observe: system calls that bypass the C library, programs into which the observer cannot
//! be loaded, and uses of a directory's name (KEY-23). Each is observed, or the compile is refused with a reason
//! (KEY-04).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::home::Home;
use crate::observed::Asking;
use crate::report::Call;
use crate::volume::Volume;

/// Rust source that reads a file by system calls in the macro's own code. It returns the content, or `none`.
#[cfg(target_arch = "x86_64")]
const RAW: &str = "unsafe fn ask(number: usize, args: [usize; 4]) -> isize { \
        let answer; \
        std::arch::asm!(\"syscall\", inlateout(\"rax\") number => answer, in(\"rdi\") args[0], \
            in(\"rsi\") args[1], in(\"rdx\") args[2], in(\"r10\") args[3], lateout(\"rcx\") _, lateout(\"r11\") _); \
        answer } \
    fn read(path: PathBuf) -> String { unsafe { \
        let path = format!(\"{}\\0\", path.display()); \
        let file = ask(257, [-100isize as usize, path.as_ptr() as usize, 0, 0]); \
        if file == -2 { return \"none\".to_string() } \
        let mut buffer = [0u8; 100]; \
        let len = ask(0, [file as usize, buffer.as_mut_ptr() as usize, 100, 0]); \
        ask(3, [file as usize, 0, 0, 0]); \
        String::from_utf8(buffer[..len as usize].to_vec()).unwrap() } } ";

/// Asserts that the compile that ran the macro is not stored for this reason, also when it is repeated.
#[track_caller]
fn refused(asking: &Asking<'_>, expected: &str, why: &str) -> Call {
    let [first, second] = [(); 2].map(|()| asking.build(expected));
    for call in [&first, &second] {
        assert!(call.result == "miss" && call.not_stored.contains(why), "{call:?}");
    }
    second
}

#[cfg(target_arch = "x86_64")]
#[test]
fn key_23_a_file_that_a_macro_reads_by_raw_system_calls_counts() {
    let body = format!("{RAW} format!(\"{{}} {{}}\", read(dir.join(\"data\")), read(dir.join(\"more\")))");
    let home = Home::new();
    let (a, b) = (Asking::new(&home, "a", &body), Asking::new(&home, "b", &body));
    a.tree.write("data", "one");
    b.tree.write("data", "two");
    a.misses("one none");
    b.misses("two none");
    a.hits("one none");
    a.tree.write("more", "more");
    a.misses("one more");
    b.tree.write("data", "one");
    b.hits("one none");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn key_23_raw_system_calls_of_threads_and_forked_processes_are_observed() {
    let body = format!(
        "{RAW} extern \"C\" {{ fn fork() -> i32; fn waitpid(child: i32, status: *mut i32, options: i32) -> i32; }} \
         let place = dir.join(\"thread\"); \
         let thread = std::thread::spawn(move || read(place)).join().unwrap(); \
         let mut status = 0; \
         unsafe {{ let child = fork(); \
             if child == 0 {{ std::process::exit(read(dir.join(\"fork\")).len() as i32) }} \
             waitpid(child, &mut status, 0); }} \
         format!(\"{{thread}} {{}}\", status >> 8)"
    );
    let home = Home::new();
    let a = Asking::new(&home, "a", &body);
    a.tree.write("thread", "one").write("fork", "123");
    a.misses("one 3");
    a.hits("one 3");
    a.tree.write("thread", "two");
    a.misses("two 3");
    a.tree.write("fork", "12345");
    a.misses("two 5");
    a.hits("two 5");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn key_04_a_compile_that_uses_io_uring_is_refused() {
    const BODY: &str = "extern \"C\" { fn syscall(number: i64, ...) -> i64; } \
        let mut parameters = [0u64; 15]; \
        let ring = unsafe { syscall(425, 1, parameters.as_mut_ptr()) }; \
        let _ = ring; fs::read_to_string(dir.join(\"data\")).unwrap()";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.tree.write("data", "one");
    refused(&a, "one", "cannot be observed: it made the system call 425");
}

#[test]
fn key_23_a_program_that_is_started_with_an_empty_environment_is_observed() {
    // Programs are started by the standard library, by a program, and by a shell.
    for (name, start) in [
        ("clear", "Command::new(\"/bin/sh\").env_clear().args([\"-c\", \"read x < data; echo $x\"])"),
        ("env", "Command::new(\"env\").args([\"-i\", \"/bin/cat\", \"data\"])"),
        (
            "unset",
            "Command::new(\"/bin/sh\").args([\"-c\", \"unset LD_PRELOAD; exec env -u LD_PRELOAD cat data\"])",
        ),
    ] {
        let body = format!(
            "String::from_utf8({start}.current_dir(dir).output().unwrap().stdout).unwrap().trim().to_string()"
        );
        let home = Home::new();
        let a = Asking::new(&home, name, &body);
        a.tree.write("data", "one\n");
        a.misses("one");
        a.hits("one");
        a.tree.write("data", "two\n");
        a.misses("two");
    }
}

#[test]
fn key_23_programs_that_the_c_library_starts_are_observed() {
    const BODY: &str = "extern \"C\" { fn clearenv() -> i32; fn system(command: *const i8) -> i32; \
            fn execl(path: *const i8, ...) -> i32; fn fork() -> i32; fn waitpid(a: i32, b: *mut i32, c: i32) -> i32; } \
        env::set_current_dir(&dir).unwrap(); \
        let out = dir.join(\"target/out\"); let mut status = 0; \
        unsafe { \
            let child = fork(); \
            if child == 0 { \
                clearenv(); \
                let status = system(c\"/bin/cat one > target/out\".as_ptr().cast()); \
                assert_eq!(status, 0); \
                execl(c\"/bin/sh\".as_ptr().cast(), c\"sh\".as_ptr(), c\"-c\".as_ptr(), c\"/bin/cat $1 $2 $3 $4 $5 >> target/out\".as_ptr(), \
                    c\"sh\".as_ptr(), c\"two\".as_ptr(), c\"two\".as_ptr(), c\"two\".as_ptr(), c\"two\".as_ptr(), c\"three\".as_ptr(), 0usize); \
                std::process::exit(1) } \
            waitpid(child, &mut status, 0); } \
        assert_eq!(status, 0); \
        let text = fs::read_to_string(&out).unwrap(); fs::remove_file(out).unwrap(); text";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.tree.write("one", "1").write("two", "2").write("three", "3");
    fs::create_dir_all(a.tree.join("target")).unwrap();
    a.misses("122223");
    a.hits("122223");
    for (name, expected) in [("one", "x22223"), ("two", "xxxxx3"), ("three", "xxxxxx")] {
        a.tree.write(name, "x");
        a.misses(expected);
    }
}

/// Compiles a C program in the package, with these options, that prints the file `data`.
fn printer(asking: &Asking<'_>, options: &[&str]) {
    asking.tree.write(
        "tool.c",
        "#include <stdio.h>\nint main(void) { int c; FILE *f = fopen(\"data\", \"r\"); \
         while ((c = getc(f)) != EOF) putchar(c); return 0; }\n",
    );
    let mut cc = asking.home().command("cc");
    cc.args(options).args(["-o", "tool", "tool.c"]).current_dir(asking.tree.path());
    assert!(cc.status().unwrap().success());
    asking.tree.remove("tool.c");
}

const TOOL: &str = "let tool = dir.join(\"tool\"); \
    String::from_utf8(Command::new(tool).current_dir(dir).output().unwrap().stdout).unwrap()";

#[test]
fn key_04_a_compile_that_starts_a_static_program_is_refused_and_the_program_named() {
    let home = Home::new();
    let a = Asking::new(&home, "a", TOOL);
    a.tree.write("data", "one");
    printer(&a, &["-static"]);
    let call = refused(&a, "one", "which cannot be observed");
    assert!(call.not_stored.contains("a/tool"), "{call:?}");
    a.tree.write("data", "two");
    refused(&a, "two", "which cannot be observed");
    // The same program, linked so that it can be observed.
    printer(&a, &[]);
    a.misses("two");
    a.hits("two");
}

#[test]
fn key_04_a_compile_that_starts_a_set_user_id_program_is_refused() {
    const NOBODY: u32 = 65534;
    let home = Home::new();
    let a = Asking::new(&home, "a", TOOL);
    a.tree.write("data", "one");
    printer(&a, &[]);
    let tool = a.tree.join("tool");
    if std::os::unix::fs::chown(&tool, Some(NOBODY), None).is_err() {
        // Only the superuser may change a file's owner, and needs no such program.
        return;
    }
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o4755)).unwrap();
    for dir in a.tree.path().ancestors().take_while(|dir| *dir != std::env::temp_dir()) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    refused(&a, "one", "tool`, which cannot be observed");
}

#[test]
fn key_23_a_macro_has_the_same_environment_as_without_kache() {
    const BODY: &str = "let mut shell = Command::new(\"/bin/sh\"); \
        shell.args([\"-c\", \"echo $LD_PRELOAD-$__KACHE_RECORD\"]); \
        let said = String::from_utf8(shell.output().unwrap().stdout).unwrap(); \
        let [library, record] = [\"LD_PRELOAD\", \"__KACHE_RECORD\"].map(|name| env::var(name).is_ok()); \
        format!(\"{library} {record} {}\", said.trim())";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    a.misses("false false -");
    a.hits("false false -");
}

#[test]
fn key_23_variables_that_a_macro_finds_by_walking_through_its_environment_count() {
    const NAMES: &str = "let mut names: Vec<String> = names.filter(|name| name.starts_with(\"MY_\")).collect(); \
        names.sort(); names.join(\" \")";
    for (name, how) in [
        ("vars", "env::vars_os().map(|(name, value)| format!(\"{}={}\", name.display(), value.display()))"),
        (
            "kernel",
            "fs::read_to_string(\"/proc/self/environ\").unwrap().split('\\0').map(str::to_string) \
             .collect::<Vec<_>>().into_iter()",
        ),
    ] {
        let home = Home::new();
        let mut a = Asking::new(&home, name, &format!("let names = {how}; {NAMES}"));
        a.misses("");
        a.hits("");
        for (variable, value, expected) in
            [("MY_A", "1", "MY_A=1"), ("MY_A", "2", "MY_A=2"), ("MY_B", "", "MY_B=")]
        {
            a.set(variable, value);
            a.misses(expected);
            a.hits(expected);
        }
    }
}

#[test]
fn key_23_a_variable_that_the_compiler_reads_counts_if_a_macro_reads_it_too() {
    let home = Home::new();
    let mut a = Asking::new(&home, "a", "format!(\"{:?}\", env::var(\"CI\").ok())");
    a.misses("None");
    a.set("CI", "yes");
    a.misses("Some(\"yes\")");
    a.hits("Some(\"yes\")");
}

#[test]
fn key_07_the_name_of_a_directory_that_a_macro_reads_binds_the_result() {
    const NAME: &str = "unsafe { std::ffi::CStr::from_ptr(getcwd(std::ptr::null_mut(), 0)) }";
    for (index, body) in [
        "env::current_dir().unwrap().file_name().unwrap().to_str().unwrap().to_string()".to_owned(),
        "fs::canonicalize(\"src\").unwrap().iter().rev().nth(1).unwrap().to_str().unwrap().to_string()".to_owned(),
        format!(
            "extern \"C\" {{ fn getcwd(out: *mut std::ffi::c_char, len: usize) -> *const std::ffi::c_char; }} \
             {NAME}.to_str().unwrap().rsplit('/').next().unwrap().to_string()"
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let home = Home::new();
        let names = ["first", "second"].map(|name| format!("{name}-{index}"));
        let [a, b] = [0, 1].map(|at| Asking::new(&home, &names[at], &body));
        a.misses(&names[0]);
        b.misses(&names[1]);
        a.hits(&names[0]);
        b.hits(&names[1]);
    }
}

/// Two checkouts with these names, in which a macro with this body makes different strings.
fn bound_by_name(names: [&str; 2], body: &str, prepare: impl Fn(&Asking<'_>), expected: [&str; 2]) {
    let home = Home::new();
    let [a, b] = names.map(|name| Asking::new(&home, name, body));
    [&a, &b].into_iter().for_each(prepare);
    a.misses(expected[0]);
    b.misses(expected[1]);
    a.hits(expected[0]);
    b.hits(expected[1]);
}

#[test]
fn key_07_a_component_that_a_macro_takes_from_a_path_binds_the_result() {
    const NAMES: [&str; 2] = ["alpha-tree", "beta-tree"];
    const LAST: &str = "dir.file_name().unwrap().to_str().unwrap().to_string()";
    bound_by_name(NAMES, LAST, |_| {}, NAMES);
    let identifier = format!("{LAST}.replace('-', \"_\")");
    bound_by_name(NAMES, &identifier, |_| {}, ["alpha_tree", "beta_tree"]);
    // The target of a link is generalised as values of variables are.
    let link = format!("let dir = fs::read_link(dir.join(\"here\")).unwrap(); {LAST}");
    let prepare = |asking: &Asking<'_>| {
        std::os::unix::fs::symlink(asking.tree.path(), asking.tree.join("here")).unwrap();
    };
    bound_by_name(NAMES, &link, prepare, NAMES);
}

/// A macro that resolves a path through a link gets the path to which the link leads.
#[test]
fn key_07_a_name_that_a_macro_takes_from_a_resolved_path_binds_the_result() {
    const LAST: &str = "let real = fs::canonicalize(dir.join(\"here\")).unwrap(); \
        real.file_name().unwrap().to_str().unwrap().to_string()";
    let home = Home::new();
    for name in ["alpha", "beta"] {
        let (asking, out) = (Asking::new(&home, name, LAST), format!("{name}-output"));
        let target = asking.tree.path().with_file_name(&out);
        asking.tree.write(".cargo/config.toml", format!("[build]\ntarget-dir = {target:?}\n"));
        std::os::unix::fs::symlink(&target, asking.tree.join("here")).unwrap();
        let built = home.cargo(&asking.tree, &["build"]).ok();
        assert_eq!(asking.tree.prints(target.join("debug/prog").to_str().unwrap()), out, "{built:#?}");
    }
}

#[test]
fn key_07_a_name_of_a_directory_above_binds_the_result_to_it() {
    const ABOVE: &str = "dir.parent().unwrap().file_name().unwrap().to_str().unwrap().to_string()";
    let home = Home::new();
    let names = ["alpha-above/child-tree", "beta-above/child-tree", "beta-above/other-tree"];
    let [a, b, sibling] = names.map(|name| Asking::new(&home, name, ABOVE));
    a.misses("alpha-above");
    b.misses("beta-above");
    a.hits("alpha-above");
    // The directory above is the same for both.
    sibling.hits("beta-above");
}

#[test]
fn key_07_a_checkout_with_the_name_of_its_crate_is_shared() {
    const BODY: &str = "fs::read_to_string(dir.join(\"text\")).unwrap()";
    let home = Home::new();
    // The crate's name is part of every output, as is a word of the file that the macro reads.
    for names in [["prog", "other-tree"], ["wording", "third-tree"]] {
        let [a, b] = names.map(|name| Asking::new(&home, name, BODY));
        for asking in [&a, &b] {
            asking.tree.write("text", format!("wording {}", names[1]));
        }
        let expected = format!("wording {}", names[1]);
        a.misses(&expected);
        b.hits(&expected);
    }
}

#[test]
fn key_23_macros_are_observed_for_every_path_of_the_cache() {
    const BODY: &str = "fs::read_to_string(dir.join(\"text\")).unwrap()";
    let home = Home::without_daemon();
    let cache = home.base().join("a cache: $x");
    let home = home.with("KACHE_CACHE_DIR", cache.to_str().unwrap());
    home.start();
    let a = Asking::new(&home, "a", BODY);
    for text in ["first", "second"] {
        a.tree.write("text", text);
        a.misses(text);
        a.hits(text);
    }
}

#[test]
fn key_23_macros_are_observed_if_the_cache_is_on_a_volume_mounted_noexec() {
    const BODY: &str = "let tool = Command::new(\"/bin/cat\").arg(dir.join(\"text\")).output().unwrap(); \
        String::from_utf8(tool.stdout).unwrap()";
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 512) else { return };
    volume.remount("noexec");
    let cache = volume.mountpoint.join("cache");
    let home =
        Home::without_daemon().with("KACHE_CACHE_DIR", cache.to_str().unwrap()).with("KACHE_RESERVE", "0");
    home.start();
    let a = Asking::new(&home, "a", BODY);
    for text in ["first", "second"] {
        a.tree.write("text", text);
        a.misses(text);
        a.hits(text);
    }
    let doctor = home.kache(&["doctor"]).run_unwatched();
    assert!(
        doctor.stdout.contains("kache sees the files and variables that proc macros read"),
        "{doctor:#?}"
    );
}
