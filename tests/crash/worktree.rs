//! A worktree with a crate that rustc has compiled once.
//!
//! Starting rustc thousands of times would take an hour. Therefore the outputs of one compile are reused for other
//! units of the same crate. Cargo distinguishes units by sixteen digits, `-C metadata` and `-C extra-filename`,
//! which rustc writes into file names, metadata, object names, dep-info and messages. Another unit's copy has its
//! own digits in all these places, so that it has the same length and another content, as rustc would have made it.
//! The daemon reads names, paths and bytes only, so it does not matter that rustc would have hashed some symbols
//! differently.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use kache_client::control::{Compile, Run, Said, said};

use crate::load::INLINE_BYTES_MAX;

/// The digits of the first worktree's unit that rustc compiles. Other worktrees use the following numbers, because
/// they would get a hit for the same unit.
const CAPTURED: u64 = 0x5eed_5eed_5eed_0000;

/// Cargo's directory for outputs.
const DEPS: &str = "target/debug/deps";

/// The parts of output names around the digits: library, metadata, dep-info.
const NAMES: [(&str, &str); 3] = [("libunit-", ".rlib"), ("libunit-", ".rmeta"), ("unit-", ".d")];

/// The source is so large that its metadata and its code become files in the store.
const SOURCE: &str = "
    #![allow(missing_docs)]
    pub static TABLE: [u8; 20_000] = [b'k'; 20_000];
    macro_rules! items { ($($name:ident)*) => { $(
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name<T> { pub first: Vec<T>, pub second: Option<String> }
        impl<T: Clone> $name<T> {
            pub fn longer(&self) -> Vec<T> { self.first.iter().chain(&self.first).cloned().collect() }
        }
    )* } }
    items!(A B C D E F G H);
";

/// One unit of the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit(pub(crate) u64);

impl Unit {
    fn digits(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Bytes that contain a unit's digits in some places.
struct Template {
    bytes: Vec<u8>,
    at: Vec<usize>,
}

impl Template {
    fn of(bytes: Vec<u8>, captured: Unit) -> Template {
        let digits = captured.digits();
        let at = memchr::memmem::find_iter(&bytes, digits.as_bytes()).collect();
        Template { bytes, at }
    }

    fn for_unit(&self, unit: Unit) -> Vec<u8> {
        let (mut bytes, digits) = (self.bytes.clone(), unit.digits());
        for &at in &self.at {
            bytes[at..at + digits.len()].copy_from_slice(digits.as_bytes());
        }
        bytes
    }
}

/// The outputs and messages of the compile by rustc.
struct Captured {
    outputs: Vec<Template>,
    stderr: Template,
    /// The observer's record of that compile.
    record: Template,
}

/// A worktree.
pub(crate) struct Worktree {
    dir: PathBuf,
    /// The unit that rustc compiles.
    pub(crate) first: Unit,
    /// The environment of calls.
    env: Vec<(&'static str, PathBuf)>,
    captured: Option<Captured>,
}

impl Worktree {
    /// Creates a worktree in this directory for a user with this home. Each worktree has another number.
    pub(crate) fn new(dir: PathBuf, home: &Path, number: u64) -> Worktree {
        fs::create_dir_all(dir.join(DEPS)).unwrap();
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("src/lib.rs"), SOURCE).unwrap();
        // kache recognises a target directory by this file.
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
        fs::write(dir.join("target/CACHEDIR.TAG"), tag).unwrap();
        let env = vec![("HOME", home.to_owned()), ("PATH", toolchain().to_owned())];
        Worktree { dir, first: Unit(CAPTURED + number), env, captured: None }
    }

    /// The directory for outputs.
    pub(crate) fn deps(&self) -> PathBuf {
        self.dir.join(DEPS)
    }

    /// The call that cargo would make for this unit. Outputs are restored through this staging directory.
    pub(crate) fn call(&self, unit: Unit, staging: &Path) -> Compile {
        let (deps, digits) = (self.deps(), unit.digits());
        let deps = deps.to_str().unwrap();
        let argv = [
            toolchain().join("rustc").to_str().unwrap(),
            "--crate-name=unit",
            "--edition=2021",
            "src/lib.rs",
            "--error-format=json",
            "--json=diagnostic-rendered-ansi,artifacts,future-incompat",
            "--crate-type=lib",
            "--emit=dep-info,metadata,link",
            "-Cembed-bitcode=no",
            &format!("-Cmetadata={digits}"),
            &format!("-Cextra-filename=-{digits}"),
            "--out-dir",
            deps,
            &format!("-Ldependency={deps}"),
        ]
        .map(|argument| Bytes::copy_from_slice(argument.as_bytes()));
        let pair = |(name, value): &(&str, PathBuf)| {
            Bytes::from([name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat())
        };
        Compile {
            argv: argv.to_vec(),
            cwd: Bytes::copy_from_slice(self.dir.as_os_str().as_bytes()),
            env: self.env.iter().map(pair).collect(),
            umask: 0o022,
            staging: Bytes::copy_from_slice(staging.as_os_str().as_bytes()),
            ..Compile::default()
        }
    }

    /// Does what the daemon responded: with rustc the first time, and without it after that. Returns the messages
    /// that the daemon sent meanwhile.
    pub(crate) fn run(&mut self, unit: Unit, run: &Run) -> Vec<Said> {
        match &self.captured {
            Some(captured) => self.copy(captured, unit, run),
            None => self.capture(run),
        }
    }

    fn capture(&mut self, run: &Run) -> Vec<Said> {
        let variables = run.env_set.iter().map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap();
            pair.split_once('=').unwrap()
        });
        let argv: Vec<_> = run.argv.iter().map(|word| std::str::from_utf8(word).unwrap()).collect();
        let env = self.env.iter().map(|(name, value)| (name, value));
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).env_clear().envs(env).envs(variables).current_dir(&self.dir);
        let output = command.output().expect("rustc is beside the cargo that built this");
        assert!(output.status.success(), "{output:?}");
        let outputs = NAMES.map(|name| self.template(fs::read(self.place(name, self.first)).unwrap()));
        for output in &outputs[..2] {
            assert!(output.bytes.len() > INLINE_BYTES_MAX, "{} bytes are not a file", output.bytes.len());
            assert!(!output.at.is_empty(), "every unit would have the same bytes");
        }
        let record = record(run).map(|path| fs::read(path).unwrap()).unwrap_or_default();
        let captured = Captured {
            outputs: Vec::from(outputs),
            stderr: self.template(output.stderr),
            record: self.template(whole_record(record)),
        };
        let said = says(&captured, self.first);
        self.captured = Some(captured);
        said
    }

    fn template(&self, bytes: Vec<u8>) -> Template {
        Template::of(bytes, self.first)
    }

    fn copy(&self, captured: &Captured, unit: Unit, run: &Run) -> Vec<Said> {
        for path in &run.unlink {
            let _ = fs::remove_file(Path::new(std::ffi::OsStr::from_bytes(path)));
        }
        if let Some(record) = record(run) {
            // The daemon may have died, and its successor may have removed the directory.
            if let Ok(mut file) = File::options().write(true).open(record) {
                file.write_all(&captured.record.for_unit(unit)).unwrap();
            }
        }
        for (name, output) in NAMES.into_iter().zip(&captured.outputs) {
            fs::write(self.place(name, unit), output.for_unit(unit)).unwrap();
        }
        says(captured, unit)
    }

    /// Checks every output of this unit, and the messages that the daemon sent instead of a compiler.
    pub(crate) fn check(&self, unit: Unit, told: &[Said]) {
        let captured = self.captured.as_ref().expect("it is compiled before it is checked");
        for (name, output) in NAMES.into_iter().zip(&captured.outputs) {
            let place = self.place(name, unit);
            let found = fs::read(&place).unwrap_or_else(|error| {
                panic!("a hit has left no `{}`: {error}", place.display());
            });
            assert!(found == output.for_unit(unit), "`{}` has other bytes", place.display());
        }
        let told: Vec<u8> = told.iter().flat_map(|one| one.bytes.clone()).collect();
        let expected = captured.stderr.for_unit(unit);
        assert_eq!(String::from_utf8_lossy(&told), String::from_utf8_lossy(&expected));
    }

    /// The bytes of this unit's library.
    pub(crate) fn library(&self, unit: Unit) -> Vec<u8> {
        let captured = self.captured.as_ref().expect("it is compiled before it is asked for");
        captured.outputs[0].for_unit(unit)
    }

    /// Removes the outputs of a unit.
    pub(crate) fn clean(&self, unit: Unit) {
        for name in NAMES {
            let _ = fs::remove_file(self.place(name, unit));
        }
    }

    fn place(&self, (before, after): (&str, &str), unit: Unit) -> PathBuf {
        self.dir.join(DEPS).join(format!("{before}{}{after}", unit.digits()))
    }
}

fn says(captured: &Captured, unit: Unit) -> Vec<Said> {
    let bytes = Bytes::from(captured.stderr.for_unit(unit));
    vec![Said { stream: said::Stream::Stderr.into(), bytes }]
}

/// The path of the observer's record of this call. The file exists until the daemon has finished the call.
pub(crate) fn record(run: &Run) -> Option<PathBuf> {
    let named = run.env_set.iter().find_map(|pair| pair.strip_prefix(b"__KACHE_RECORD="))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(named)))
}

/// The part of a record that was written, whose length is the record's fourth number.
fn whole_record(mut record: Vec<u8>) -> Vec<u8> {
    if let Some(end) = record.get(12..16) {
        let end = u32::from_ne_bytes(end.try_into().unwrap());
        record.truncate(end as usize);
    }
    record
}

fn toolchain() -> &'static Path {
    Path::new(env!("CARGO")).parent().expect("a program lies in a directory")
}
