//! Runs moon in a copy of `projects/moon`, which has one task with random outputs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bazel_project::copy_dir;
use crate::process::{command, run};
use crate::tools::{project, tool};

/// The outputs of the task, by path.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// moon and its workspace.
pub(crate) struct Moon {
    program: PathBuf,
    home: PathBuf,
    workspace: PathBuf,
}

impl Moon {
    /// Copies the project to `workspace`, and configures a server on this machine. moon's home is beside the
    /// workspace, so that several workspaces compile its plugin only once.
    pub(crate) fn new(workspace: &Path, port: u16, compression: &str, instance: &str) -> Self {
        let home = workspace.with_file_name("moon-home");
        let moon = Moon { program: tool("moon"), home, workspace: workspace.to_owned() };
        copy_dir(&project("moon"), workspace);
        let config = workspace.join(".moon/workspace.yml");
        let text = fs::read_to_string(&config).expect("the project has a configuration");
        let text = text
            .replace("@PORT@", &port.to_string())
            .replace("@COMPRESSION@", compression)
            .replace("@INSTANCE@", instance);
        fs::write(&config, text).expect("the test's directory is writable");
        // moon asks git what changed, which needs a first commit.
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "--all"],
            &[
                "-c",
                "user.name=test",
                "-c",
                "user.email=test@example.invalid",
                "commit",
                "--quiet",
                "-m",
                "first",
            ],
        ] {
            let mut git = command(Path::new("git"), &moon.home);
            run(git.current_dir(workspace).args(arguments)).expect_success("git");
        }
        moon
    }

    /// Runs the task, and returns moon's output.
    pub(crate) fn make(&self) -> String {
        let mut command = command(&self.program, &self.home);
        command.current_dir(&self.workspace).args(["run", "app:make", "--log", "warn"]);
        // Otherwise moon looks for updates in the network.
        command.env("MOON_SKIP_SETUP_TOOLCHAIN", "true").env("PROTO_OFFLINE", "true");
        run(&mut command).expect_success("moon run")
    }

    /// Removes the outputs and moon's local cache.
    pub(crate) fn clean(&self) {
        for dir in ["app/out", ".moon/cache"] {
            fs::remove_dir_all(self.workspace.join(dir)).expect("moon has made it");
        }
    }

    /// The outputs of the task.
    pub(crate) fn outputs(&self) -> Files {
        let out = self.workspace.join("app/out");
        let names = ["empty.bin", "small.bin", "deep/large.bin", "deep/large.txt", "deep/middle.txt"];
        names
            .iter()
            .map(|name| ((*name).to_owned(), fs::read(out.join(name)).expect("moon has made it")))
            .collect()
    }
}

/// Asserts that the outputs are the same, and names one that is not.
pub(crate) fn assert_same(actual: &Files, expected: &Files) {
    for (name, bytes) in expected {
        assert!(actual[name] == *bytes, "{name} has other bytes");
    }
}

/// Returns whether moon's output says that the task was a hit. Fails if the output does not tell.
pub(crate) fn is_hit(output: &str) -> bool {
    output.contains("cached from remote")
}
