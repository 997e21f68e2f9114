//! Uploaded actions, executed as an engine of the Remote Execution API would: in a directory of its own, from what the
//! remote has and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use kache_proto::Message as _;
use kache_proto::reapi::{Action, ActionResult, Command, Digest, Directory};

use crate::home::{Home, rustc};
use crate::machines::{RemoteSetup, files_below, machine};
use crate::project;
use crate::tree::Tree;

/// A folder that is a remote.
struct Remote<'a>(&'a Path);

impl Remote<'_> {
    fn blob(&self, digest: &Digest) -> Vec<u8> {
        if digest.size_bytes == 0 {
            return Vec::new();
        }
        let path = self.0.join("cas").join(&digest.hash[..2]).join(&digest.hash);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// All actions that have a result with outputs, with these.
    fn actions(&self) -> Vec<(Action, ActionResult)> {
        let read = |path: PathBuf| {
            let result = ActionResult::decode(&*fs::read(&path).unwrap()).unwrap();
            let hash = path.file_name().unwrap().to_str().unwrap().to_owned();
            let cas = self.0.join("cas").join(&hash[..2]).join(&hash);
            let action = Action::decode(&*fs::read(cas).unwrap()).unwrap();
            (action, result)
        };
        let all = files_below(&self.0.join("ac")).into_iter().map(read);
        all.filter(|(_, result)| !result.output_files.is_empty()).collect()
    }

    /// Makes the tree of a directory, with hard links to files of the toolchain, as engines do.
    fn lay_out(&self, digest: &Digest, at: &Path) {
        let directory = Directory::decode(&*self.blob(digest)).unwrap();
        fs::create_dir_all(at).unwrap();
        assert!(directory.symlinks.is_empty());
        for file in &directory.files {
            let path = at.join(&file.name);
            fs::write(&path, self.blob(file.digest.as_ref().unwrap())).unwrap();
            let mode = if file.is_executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        for child in &directory.directories {
            self.lay_out(child.digest.as_ref().unwrap(), &at.join(&child.name));
        }
    }
}

/// Whether an action says that nothing else can execute it.
fn is_refused(command: &Command) -> bool {
    command.arguments[2].starts_with("echo 'kache hides the values of some variables of this action")
}

/// Executes an action in this directory.
fn execute(remote: &Remote<'_>, action: &Action, command: &Command, root: &Path) {
    remote.lay_out(action.input_root_digest.as_ref().unwrap(), root);
    for output in &command.output_paths {
        fs::create_dir_all(root.join(output).parent().unwrap()).unwrap();
    }
    let (program, args) = command.arguments.split_first().unwrap();
    let variables = command.environment_variables.iter().map(|one| (&one.name, &one.value));
    // The programs of a linker come from the machine, as on the workers of an engine.
    let mut process = Process::new(program);
    process.args(args).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(variables);
    let ran = process.current_dir(root.join(&command.working_directory)).output().unwrap();
    assert!(ran.status.success(), "{command:#?}\n{}", String::from_utf8_lossy(&ran.stderr));
}

/// A machine that uploads inputs to a folder, after a build of the workspace.
fn built(folder: &Path) -> (Home, Tree) {
    let remote = RemoteSetup::from(&format!("file://{}", folder.display())).line("upload_inputs = true");
    // An engine gets the compiler itself, and not a program that starts it.
    let home = machine("first", remote.variable("RUSTC", rustc().to_str().unwrap()), None);
    let tree = project::mini(&home, "first/ws");
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    home.kache(&["sync", "--push"]).ok_unwatched();
    (home, tree)
}

#[test]
fn net_05_an_engine_gets_the_same_outputs_from_uploaded_actions() {
    let folder = tempfile::tempdir().unwrap();
    let (_home, _tree) = built(folder.path());
    let remote = Remote(folder.path());
    let (mut libraries, mut programs, mut refused) = (0, 0, 0);
    for (action, result) in remote.actions() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("worker/input-root");
        let command = Command::decode(&*remote.blob(action.command_digest.as_ref().unwrap())).unwrap();
        if is_refused(&command) {
            refused += 1;
            continue;
        }
        execute(&remote, &action, &command, &root);
        for file in &result.output_files {
            assert!(command.output_paths.contains(&file.path), "{command:#?}");
            let made = fs::read(root.join(&file.path)).unwrap();
            // A dep-info names the files of the machine that it was made on.
            if !file.path.ends_with(".d") {
                assert!(made == remote.blob(file.digest.as_ref().unwrap()), "{} has other bytes", file.path);
            }
            libraries += usize::from(file.path.ends_with(".rlib"));
            programs += usize::from(file.is_executable);
        }
    }
    // One package of the workspace has a variable of its own, and the program asks for another one.
    assert!(
        libraries > 2 && programs > 2 && refused <= 2,
        "{libraries} libraries, {programs} programs, {refused} refused"
    );
}

#[test]
fn inputs_are_uploaded_only_where_that_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let home = machine("first", &format!("file://{}", folder.path().display()), None);
    let tree = project::mini(&home, "first/ws");
    home.cargo(&tree, &["build", "--workspace"]).ok().expect_each_compiled_once();
    home.kache(&["sync", "--push"]).ok_unwatched();
    let source = tree.read("app/src/main.rs");
    let files = files_below(folder.path());
    assert!(!files.is_empty() && files.iter().all(|file| fs::read(file).unwrap() != source.as_bytes()));
}
