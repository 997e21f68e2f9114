//! How kache judges files and directories: what a stamp proves, what a listing contains, and where modules and
//! native libraries are searched.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::home::Home;
use crate::observed::Asking;
use crate::project;
use crate::unit::Unit;
use crate::volume::Volume;

#[test]
fn key_23_a_listing_counts_the_kind_of_each_entry() {
    const BODY: &str = "let entry = fs::read_dir(dir.join(\"data\")).unwrap().next().unwrap().unwrap(); \
        let kind = entry.file_type().unwrap(); \
        format!(\"{} {} {}\", kind.is_file(), kind.is_dir(), kind.is_symlink())";
    let home = Home::new();
    let a = Asking::new(&home, "a", BODY);
    let entry = a.tree.join("data/entry");
    a.tree.write("data/entry", "");
    a.misses("true false false");
    a.tree.remove("data/entry");
    fs::create_dir(&entry).unwrap();
    a.misses("false true false");
    a.tree.remove("data/entry");
    symlink("../src", &entry).unwrap();
    a.misses("false false true");
    a.hits("false false true");
}

#[test]
fn key_03_a_module_called_lib_or_main_may_be_in_two_files() {
    let home = Home::new();
    let tree = home.tree("ws");
    for name in ["lib", "main", "build"] {
        tree.write(&format!("src/root_{name}.rs"), format!("mod {name}; fn main() {{ {name}::say() }}"));
        tree.write(&format!("src/{name}.rs"), "pub fn say() { println!(\"one\") }");
        let root = format!("root_{name}");
        let unit = Unit::bin(&home, &tree, &root);
        assert_eq!(unit.misses(), "one");
        assert_eq!(unit.hits(), "one");
        // If both exist, the compiler reports an ambiguity.
        tree.write(&format!("src/{name}/mod.rs"), "pub fn say() { println!(\"two\") }");
        assert!(unit.fails().contains("found at both"), "{name}");
        tree.remove(&format!("src/{name}.rs"));
        assert_eq!(unit.misses(), "two");
        tree.write(&format!("src/{name}.rs"), "");
        assert!(unit.fails().contains("found at both"), "{name}");
    }
}

#[test]
fn key_14_a_library_that_a_build_scripts_trial_bundles_counts() {
    let home = Home::new();
    let build = |checkout: &str, value: u32| {
        let tree = project::program(&home, checkout, "fn main() { println!(\"{}\", env!(\"VALUE\")) }");
        crate::linked::native(&tree, "native", value);
        tree.write(
            "trial.rs",
            "#[link(name = \"native\", kind = \"static\")] extern \"C\" { fn native() -> u32; } \
             pub fn call() -> u32 { unsafe { native() } }",
        );
        tree.write(
            "build.rs",
            "use std::{env, fs, process::Command}; \
             fn main() { \
                 let out = env::var(\"OUT_DIR\").unwrap(); \
                 let mut trial = Command::new(env::var(\"RUSTC_WRAPPER\").unwrap()); \
                 trial.arg(env::var(\"RUSTC\").unwrap()).args([\"--crate-name=trial\", \"--crate-type=lib\", \
                     \"--emit=link\", \"--edition=2021\", \"-Lnative=native\", \"trial.rs\", \"--out-dir\", &out]); \
                 assert!(trial.status().unwrap().success()); \
                 let made = fs::read(format!(\"{out}/libtrial.rlib\")).unwrap(); \
                 let holds = |number: u32| made.windows(5).any(|code| code[0] == 0xb8 && code[1..] == number.to_le_bytes()); \
                 println!(\"cargo:rustc-env=VALUE={} {}\", holds(11111), holds(22222)); \
             }",
        );
        home.cargo(&tree, &["build"]).env("RUSTC_WRAPPER", crate::home::KACHE).ok();
        tree.prints("target/debug/prog")
    };
    assert_eq!(build("a", 11111), "true false");
    assert_eq!(build("b", 22222), "false true");
}

/// Unmounts a volume, changes its device, and mounts it again. Returns the path of the device.
fn while_unmounted(volume: &Volume, change: impl FnOnce(&Path)) -> PathBuf {
    let run = |program: &str, args: &[&Path]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run("findmnt", &["-n".as_ref(), "-o".as_ref(), "SOURCE".as_ref(), &volume.mountpoint]);
    let device = PathBuf::from(said.trim());
    // A loop device is released when no process has it open.
    let _open = fs::File::open(&device).unwrap();
    run("umount", &[&volume.mountpoint]);
    change(&device);
    run("mount", &[&device, &volume.mountpoint]);
    device
}

/// Dates, inode, length and device of the file are the same in both images.
#[test]
fn key_05_digests_of_files_in_one_image_are_not_used_for_the_next_image_on_its_device() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::new(dir.path(), &["mkfs.ext4", "-q"], 32) else { return };
    let home = Home::new();
    let tree = home.tree("ws");
    let data = volume.mountpoint.join("data.txt");
    let (before, after) = ("the text in the first image", "the text in the other image");
    fs::write(&data, before).unwrap();
    tree.write(
        "src/image.rs",
        format!("fn main() {{ println!(\"{{}}\", include_str!(\"{}\")) }}", data.display()),
    );
    let unit = Unit::bin(&home, &tree, "image");
    assert_eq!(unit.misses(), before);
    std::thread::sleep(Duration::from_secs(3)); // Until it is old enough to be remembered.
    assert_eq!(unit.hits(), before);
    let looks = || {
        let metadata = fs::metadata(&data).unwrap();
        (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.ctime_nsec())
    };
    let looked = looks();
    let device = while_unmounted(&volume, |device| {
        let image = fs::read(device).unwrap();
        let at = image.windows(before.len()).position(|part| part == before.as_bytes()).unwrap();
        let block = fs::File::options().write(true).open(device).unwrap();
        block.write_all_at(after.as_bytes(), at as u64).unwrap();
        block.sync_all().unwrap();
    });
    assert_eq!(looks(), looked, "{}", device.display());
    assert_eq!(unit.misses(), after);
}
