//! A compile without a compiler: checkouts on the real filesystem, one store, and the stages
//! from the query on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kache_cas::encoding::{encode_action, encode_command, wire_digest};
use kache_cas::{Digest, DigestFunction, Sharing, Store, StoreSettings};
use kache_proto::reapi::{Action, ActionResult, Command};
use tempfile::TempDir;

use super::{OutputSnapshot, Publication, PublishError, Published, Stores, publish};
use crate::action::{
    ActionError, FullAction, Label, Observation, Origin, Output, OutputKind, PlusNotices, Task,
};
use crate::compile::{Captured, Exit, MessagePiece, MessageStream};
use crate::compiler::rustc::locators::MacroArguments;
use crate::inputs::{FileState, Input, World, WorldError};
use crate::lookup::{LookupOutcome, Uploads, find};
use crate::outputs::Staging;
use crate::restore::{RestoreError, RestoreSource, Restored, restore};
use crate::roles::{Role, Root, Roots};

pub(crate) const BLAKE3: DigestFunction = DigestFunction::Blake3;

/// The macros of a crate whose dependencies are all known.
pub(crate) const NO_MACROS: MacroArguments =
    MacroArguments { is_proc_macro: false, uses_unknown_crates: false };

/// The macros of a crate that uses a crate of which nothing is known.
pub(crate) const UNKNOWN_CRATES: MacroArguments =
    MacroArguments { is_proc_macro: false, uses_unknown_crates: true };

/// Larger than the blobs that the store keeps in its database, so that files are shared.
pub(crate) const BLOB_BYTES: usize = 10_000;

/// The filesystem, without any memory of earlier reads.
pub(crate) struct Disk;

impl World for Disk {
    fn state(&self, path: &Path) -> Result<FileState, WorldError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(FileState::Directory),
            Ok(metadata) => Ok(FileState::File {
                digest: Digest::of(BLAKE3, &fs::read(path).unwrap()),
                is_executable: metadata.mode() & 0o111 != 0,
            }),
            Err(_) => Ok(FileState::Absent),
        }
    }

    fn listing(&self, _path: &Path) -> Result<Option<Digest>, WorldError> {
        Ok(None)
    }

    fn link(&self, path: &Path) -> Result<Option<Vec<u8>>, WorldError> {
        Ok(fs::read_link(path).ok().map(|text| text.into_os_string().into_encoded_bytes()))
    }
}

/// A directory with a store in it.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

impl House {
    /// On the filesystem that the checkout of these tests is on.
    pub(crate) fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreSettings::new(dir.path().join("store"))).unwrap();
        House { dir, store }
    }

    pub(crate) fn stores(&self) -> Stores<'_> {
        Stores { files: self.store.files(), blobs: self.store.blobs(), actions: self.store.actions() }
    }

    /// A checkout with a source file, its own cargo home, and an empty target directory.
    pub(crate) fn checkout(&self, name: &str) -> Checkout<'_> {
        let home = self.dir.path().join(name);
        let checkout = Checkout {
            house: self,
            ws: home.join("ws"),
            cargo: home.join("cargo"),
            umask: 0o022,
            origin: Origin::Path,
            kinds: vec![OutputKind::DepInfo, OutputKind::Metadata, OutputKind::Rlib],
            depends_on: Vec::new(),
            build_script_output: None,
            env: BTreeMap::new(),
            presentation: b"json".to_vec(),
            stderr: String::new(),
            extra_dep_info: Vec::new(),
        };
        write(&checkout.ws.join("src/lib.rs"), b"mod a;");
        write(&checkout.ws.join("src/a.rs"), b"");
        fs::create_dir_all(checkout.deps()).unwrap();
        fs::create_dir_all(&checkout.cargo).unwrap();
        checkout
    }
}

pub(crate) struct Checkout<'h> {
    pub(crate) house: &'h House,
    pub(crate) ws: PathBuf,
    pub(crate) cargo: PathBuf,
    pub(crate) umask: u32,
    pub(crate) origin: Origin,
    pub(crate) kinds: Vec<OutputKind>,
    pub(crate) depends_on: Vec<PathBuf>,
    pub(crate) build_script_output: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) presentation: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) extra_dep_info: Vec<PathBuf>,
}

impl Checkout<'_> {
    pub(crate) fn deps(&self) -> PathBuf {
        self.ws.join("target/debug/deps")
    }

    pub(crate) fn output(&self, kind: OutputKind) -> PathBuf {
        self.deps().join(match kind {
            OutputKind::DepInfo => "x-1.d",
            OutputKind::Metadata => "libx-1.rmeta",
            OutputKind::Rlib => "libx-1.rlib",
            OutputKind::SharedLibrary => "libx-1.so",
            OutputKind::Executable => "x-1",
            OutputKind::Debug => "x-1.dwp",
            _ => "x-1.other",
        })
    }

    pub(crate) fn task(&self) -> Task {
        let root = |role, dir: &Path| Root { role, dir: dir.to_owned() };
        let roots = Roots::new([
            root(Role::Workspace, &self.ws),
            root(Role::Target, &self.ws.join("target")),
            root(Role::Cargo, &self.cargo),
        ]);
        let output = |&kind: &OutputKind| {
            let path = self.output(kind);
            let name = roots.role_path(&self.ws, &path);
            Output { kind, path, name, is_required: kind != OutputKind::Debug }
        };
        Task {
            label: Label::default(),
            cwd: self.ws.clone(),
            umask: self.umask,
            query: Digest::of(BLAKE3, format!("query of {:?}", self.kinds).as_bytes()),
            outputs: self.kinds.iter().map(output).collect(),
            presentation: self.presentation.clone(),
            message_format: &PlusNotices,
            wants_notices: true,
            origin: self.origin,
            depends_on: self.depends_on.clone(),
            earlier_step: self.build_script_output.clone(),
            extra_dep_info: self.extra_dep_info.clone(),
            runs_foreign_code: false,
            roots,
        }
    }

    /// Writes the outputs that a compiler would have written. `seed` makes the content of the library.
    pub(crate) fn compile(&self, seed: &[u8]) -> Captured {
        let started = SystemTime::now();
        let mut notices = String::new();
        for kind in &self.kinds {
            let path = self.output(*kind);
            let mut bytes = seed.repeat(BLOB_BYTES / seed.len() + 1);
            bytes.extend_from_slice(format!("{kind:?}").as_bytes());
            match kind {
                OutputKind::DepInfo => write(&path, self.dep_info().as_bytes()),
                _ => write(&path, &bytes),
            }
            let mode = if kind.is_executable() { 0o777 } else { 0o666 } & !self.umask;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let path = path.display();
            notices += &format!("+ {path}\n");
        }
        let stderr = Bytes::from(format!("{}{notices}", self.stderr));
        Captured {
            exit: Exit::Code(0),
            messages: vec![MessagePiece { stream: MessageStream::Stderr, bytes: stderr }],
            started,
            wall: Duration::from_secs(60),
            cpu: Duration::from_millis(1_000),
        }
    }

    fn dep_info(&self) -> String {
        let names: Vec<_> = self.kinds.iter().map(|kind| self.output(*kind)).collect();
        let rules = names.iter().map(|name| format!("{}: src/lib.rs src/a.rs\n\n", name.display()));
        let env = self.env.iter().map(|(name, value)| format!("# env-dep:{name}={value}\n"));
        let env: String = env.collect();
        let gap = if env.is_empty() { "" } else { "\n" };
        format!("{}src/lib.rs:\nsrc/a.rs:\n{gap}{env}", rules.collect::<String>())
    }

    pub(crate) fn publish_with(
        &self,
        captured: &Captured,
        change: impl FnOnce(&mut Publication<'_>),
    ) -> Result<Published, PublishError> {
        let task = self.task();
        let complete =
            |observations: &[Observation]| full_action(format!("{:?}{observations:?}", task.query));
        let mut publication = Publication {
            task: &task,
            inputs: &[],
            captured,
            snapshot: &OutputSnapshot::take(&task, captured.started + captured.wall),
            is_rebuild: false,
            most: Sharing::Hardlink,
            keeps_failures: false,
            names_in: BLAKE3,
            locators: &NO_MACROS,
            watched: None,
            complete: &complete,
        };
        change(&mut publication);
        publish(&publication, &Disk, self.house.stores())
    }

    pub(crate) fn publish(&self, captured: &Captured) -> Published {
        self.publish_with(captured, |_| {}).unwrap()
    }

    pub(crate) fn publish_inputs(&self, captured: &Captured, inputs: &[Input]) -> Published {
        self.publish_as("action", captured, inputs).unwrap()
    }

    /// Publishes with a full action that is made from `action`.
    pub(crate) fn publish_as(
        &self,
        action: &str,
        captured: &Captured,
        inputs: &[Input],
    ) -> Result<Published, PublishError> {
        // The closure must live as long as the publication, so it cannot be an argument of `publish_with`.
        let task = self.task();
        let complete = |_: &[Observation]| full_action(action.to_owned());
        let publication = Publication {
            task: &task,
            inputs,
            captured,
            snapshot: &OutputSnapshot::take(&task, captured.started + captured.wall),
            is_rebuild: false,
            most: Sharing::Hardlink,
            keeps_failures: false,
            names_in: BLAKE3,
            locators: &NO_MACROS,
            watched: None,
            complete: &complete,
        };
        publish(&publication, &Disk, self.house.stores())
    }

    pub(crate) fn find(&self) -> LookupOutcome {
        find(&self.task(), &self.env, &Disk, self.house.store.actions(), Uploads::Ignored).unwrap()
    }

    pub(crate) fn restore(&self) -> Result<Restored, RestoreError> {
        let LookupOutcome::Hit { result, .. } = self.find() else { panic!("there is no result") };
        self.lay_down(&result)
    }

    /// Restores a result for a client that keeps it.
    pub(crate) fn lay_down(&self, result: &ActionResult) -> Result<Restored, RestoreError> {
        let dir = self.deps().join(".kache-staging");
        fs::create_dir(&dir).unwrap();
        let restored = self.lay_down_by(result, &Staging::new(Some(dir.clone())));
        fs::remove_dir_all(dir).unwrap();
        restored
    }

    pub(crate) fn lay_down_by(
        &self,
        result: &ActionResult,
        staging: &Staging,
    ) -> Result<Restored, RestoreError> {
        let (files, blobs) = (self.house.store.files(), self.house.store.blobs());
        restore(&self.task(), result, RestoreSource { files, blobs, most: Sharing::Hardlink }, staging)
    }
}

/// A valid action. Equal texts give equal actions.
pub(crate) fn full_action(text: String) -> Result<FullAction, ActionError> {
    let command = encode_command(BLAKE3, Command { arguments: vec![text], ..Default::default() })?;
    let action = Action {
        command_digest: Some(wire_digest(&command.digest())),
        input_root_digest: Some(wire_digest(&Digest::<()>::empty(BLAKE3))),
        ..Default::default()
    };
    let action = encode_action(BLAKE3, action)?;
    Ok(FullAction { digest: action.digest(), action, command, directories: Vec::new(), files: Vec::new() })
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(path);
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

/// Inode, mode, and modification time in seconds of a file.
pub(crate) fn look(path: &Path) -> (u64, u32, i64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.ino(), metadata.mode() & 0o7777, metadata.mtime())
}

/// Whether files are shared by hard links on this filesystem. Some tests need that.
pub(crate) fn shares_inodes(house: &House) -> bool {
    house.store.files().shares(house.dir.path()).unwrap() == kache_cas::Link::Hardlink
}
