//! A worktree, and in it a crate that rustc has really compiled once.
//!
//! Starting rustc thousands of times would take an hour, so what it made is used again for
//! other units of the same crate. What cargo tells units apart by is sixteen digits, `-C metadata`
//! and `-C extra-filename`; rustc writes them into file names, metadata, object names, dep-info
//! and messages. Wherever they stand in what was captured, another unit's stand in its copy: of
//! one length and of other content, as rustc would have left it. The daemon looks at names,
//! paths and bytes; that rustc would have hashed some symbols otherwise is none of its business.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use kache_client::control::{Compile, Run, Said, said};

use crate::load::INLINE_BYTES_MAX;

/// The digits of the first worktree's unit that is really compiled. Those of others follow:
/// what one has compiled another would get from the store.
const CAPTURED: u64 = 0x5eed_5eed_5eed_0000;

/// Where cargo's outputs lie.
const DEPS: &str = "target/debug/deps";

/// Output files around the digits: library, metadata, dep-info.
const NAMES: [(&str, &str); 3] = [("libunit-", ".rlib"), ("libunit-", ".rmeta"), ("unit-", ".d")];

/// Large enough to be a file in the store, in metadata as well as in code.
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

/// One unit of the crate, by its digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit(pub(crate) u64);

impl Unit {
    fn digits(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Bytes in which a unit's digits stand here and there.
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

/// What rustc left when it compiled the unit that it really compiled.
struct Captured {
    outputs: Vec<Template>,
    stderr: Template,
    /// What the observer in it has noted.
    record: Template,
}

/// A worktree.
pub(crate) struct Worktree {
    dir: PathBuf,
    /// The unit that is really compiled.
    pub(crate) first: Unit,
    /// What calls have for an environment.
    env: Vec<(&'static str, PathBuf)>,
    captured: Option<Captured>,
}

impl Worktree {
    /// One in this directory, of a user whose home is there; no two have one number.
    pub(crate) fn new(dir: PathBuf, home: &Path, number: u64) -> Worktree {
        fs::create_dir_all(dir.join(DEPS)).unwrap();
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("src/lib.rs"), SOURCE).unwrap();
        // By which a target directory is known.
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
        fs::write(dir.join("target/CACHEDIR.TAG"), tag).unwrap();
        let env = vec![("HOME", home.to_owned()), ("PATH", toolchain().to_owned())];
        Worktree { dir, first: Unit(CAPTURED + number), env, captured: None }
    }

    /// Where the outputs lie.
    pub(crate) fn deps(&self) -> PathBuf {
        self.dir.join(DEPS)
    }

    /// The call that cargo would make for this unit. Outputs are restored by way of this staging
    /// directory.
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

    /// Does what the daemon said, by rustc the first time and without it from then on. What was
    /// said meanwhile is returned.
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
            // The daemon may be gone, and its successor may have swept it away.
            if let Ok(mut file) = File::options().write(true).open(record) {
                file.write_all(&captured.record.for_unit(unit)).unwrap();
            }
        }
        for (name, output) in NAMES.into_iter().zip(&captured.outputs) {
            fs::write(self.place(name, unit), output.for_unit(unit)).unwrap();
        }
        says(captured, unit)
    }

    /// Checks every output of this unit, and what the daemon said in the compiler's place.
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

    /// Removes what a unit has here.
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

/// Where the observer notes what this compiler asks for. It is there for as long as the daemon
/// has something to do for the call.
pub(crate) fn record(run: &Run) -> Option<PathBuf> {
    let named = run.env_set.iter().find_map(|pair| pair.strip_prefix(b"__KACHE_RECORD="))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(named)))
}

/// As much of a record as is written: its fourth number says how much that is.
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
