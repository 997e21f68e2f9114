//! remotetool, the command of the Remote Execution SDK for Go: it uploads and downloads blobs and directories, and
//! shows an action with its result.

use std::fs;
use std::path::{Path, PathBuf};

use kache_proto::reapi::command::EnvironmentVariable;
use kache_proto::reapi::{
    Action, ActionResult, Command, Digest, OutputDirectory, OutputFile, Platform, Tree, platform,
};

use crate::bazel_project::copy_dir;
use crate::probe::{Probe, digest};
use crate::process::{Finished, command, run};
use crate::server::{Server, Settings};
use crate::tools::{project, skipped, tool};

/// Larger than a message may be, so that ByteStream is used.
const LARGE_BYTES: usize = 6_000_000;

/// Runs remotetool with the flags for one server.
pub(crate) struct RemoteTool {
    program: PathBuf,
    dir: PathBuf,
    address: String,
    security: Vec<String>,
    instance: &'static str,
}

impl RemoteTool {
    /// Uses a server on this machine. remotetool's home is below `dir`.
    pub(crate) fn new(dir: &Path, port: u16, instance: &'static str) -> Self {
        RemoteTool {
            program: tool("remotetool"),
            dir: dir.to_owned(),
            address: format!("127.0.0.1:{port}"),
            security: vec!["-service_no_security".to_owned()],
            instance,
        }
    }

    /// Uses TLS with the certificates in `dir`, with or without a client certificate.
    pub(crate) fn over_tls(dir: &Path, port: u16, has_certificate: bool) -> Self {
        let file = |flag: &str, name: &str| format!("-{flag}={}", as_text(&dir.join(name)));
        let mut security = vec![file("tls_ca_cert", "ca.pem")];
        if has_certificate {
            security.push(file("tls_client_auth_cert", "client.pem"));
            security.push(file("tls_client_auth_key", "client.key"));
        }
        RemoteTool { security, ..RemoteTool::new(dir, port, "") }
    }

    /// Runs an operation, which may fail.
    pub(crate) fn try_run(&self, operation: &str, arguments: &[&str]) -> Finished {
        let mut command = command(&self.program, &self.dir.join("home"));
        command
            .args(["-logtostderr", "-service_no_auth", "-use_rpc_credentials=false"])
            .args(&self.security)
            .args(["-service", &self.address, "-instance", self.instance, "-operation", operation])
            .args(arguments);
        run(&mut command)
    }

    /// Runs an operation, which must succeed.
    pub(crate) fn run(&self, operation: &str, arguments: &[&str]) -> String {
        self.try_run(operation, arguments).expect_success(operation)
    }

    /// Uploads bytes, and returns their digest as remotetool writes it.
    pub(crate) fn upload(&self, bytes: &[u8]) -> String {
        let path = self.dir.join("upload");
        fs::write(&path, bytes).expect("the test's directory is writable");
        self.run("upload_blob", &["-path", as_text(&path)]);
        argument(&digest(bytes))
    }

    /// Downloads the blob with this digest and returns its bytes.
    pub(crate) fn download(&self, digest: &str) -> Vec<u8> {
        let path = self.dir.join("download");
        let _ = fs::remove_file(&path);
        self.run("download_blob", &["-digest", digest, "-path", as_text(&path)]);
        fs::read(&path).expect("it was downloaded")
    }
}

/// Incompressible bytes, which differ for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        // Xorshift, whose output cannot be compressed.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

fn as_text(path: &Path) -> &str {
    path.to_str().expect("the test's directory has a plain name")
}

fn argument(digest: &Digest) -> String {
    format!("{}/{}", digest.hash, digest.size_bytes)
}

#[test]
fn remotetool_uploads_and_downloads_blobs() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    for instance in ["", "a/b"] {
        let remote = RemoteTool::new(dir.path(), server.grpc_port(), instance);
        for (seed, len) in [(1, 5), (2, 100_000), (3, LARGE_BYTES), (4, 0)] {
            let bytes = noise(seed, len);
            assert_eq!(remote.download(&remote.upload(&bytes)), bytes, "{len} bytes, instance `{instance}`");
        }
    }
    let remote = RemoteTool::new(dir.path(), server.grpc_port(), "");
    let absent = argument(&digest(b"nobody stored this"));
    let refused = remote.try_run("download_blob", &["-digest", &absent, "-path", "nothing"]);
    assert!(!refused.status.success() && refused.output.contains("NotFound"), "{}", refused.output);
}

#[test]
fn remotetool_uploads_and_downloads_a_directory() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let remote = RemoteTool::new(dir.path(), server.grpc_port(), "");
    let source = dir.path().join("source");
    let root = upload_directory(&remote, &source);
    let copy = dir.path().join("copy");
    remote.run("download_dir", &["-digest", &root, "-path", as_text(&copy)]);
    for name in ["BUILD.bazel", "hello.c", "noise", "deep/noise"] {
        assert_eq!(fs::read(copy.join(name)).unwrap(), fs::read(source.join(name)).unwrap(), "{name}");
    }
}

/// Uploads a directory with a small, a large and a nested file.
fn upload_directory(remote: &RemoteTool, source: &Path) -> String {
    copy_dir(&project("bazel"), source);
    fs::create_dir_all(source.join("deep")).expect("the test's directory is writable");
    for (name, bytes) in [("noise", noise(5, LARGE_BYTES)), ("deep/noise", noise(6, 10_000))] {
        fs::write(source.join(name), bytes).expect("the test's directory is writable");
    }
    let said = remote.run("upload_dir", &["-path", as_text(source)]);
    let (_, rest) = said.split_once("Directory root digest: ").expect("remotetool says the root's digest");
    rest.split_whitespace().next().expect("the digest follows").to_owned()
}

#[test]
fn remotetool_prints_an_action_and_downloads_its_result() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    let remote = RemoteTool::new(dir.path(), server.grpc_port(), "");
    let probe = Probe::connect(server.grpc_port());
    let root = upload_directory(&remote, &dir.path().join("source"));
    let action = store_action(&probe, &root);
    let large = noise(7, LARGE_BYTES);
    remote.upload(&large);
    remote.upload(b"said on stdout\n");
    let tree = probe.store(&Tree { root: Some(Default::default()), children: Vec::new() });
    assert_eq!(probe.get(action.clone()), None);
    probe.update(action.clone(), result(&large, tree));

    let shown = remote.run("show_action", &["-digest", &argument(&action)]);
    for part in ["cc -c hello.c", "LANG=C", "hello.c", "deep/noise", "out/hello.o", "stdout digest: "] {
        assert!(shown.contains(part), "`{part}` is not shown\n{shown}");
    }
    let outputs = dir.path().join("outputs");
    remote.run("download_action_result", &["-digest", &argument(&action), "-path", as_text(&outputs)]);
    assert_eq!(fs::read(outputs.join("out/hello.o")).unwrap(), large);
    assert_eq!(fs::read(outputs.join("stdout")).unwrap(), b"said on stdout\n");
}

/// Stores a Command and the Action that runs it.
fn store_action(probe: &Probe, root: &str) -> Digest {
    let (hash, size) = root.split_once('/').expect("a digest has a size");
    let root = Digest { hash: hash.to_owned(), size_bytes: size.parse().expect("a size is a number") };
    let command = probe.store(&Command {
        arguments: ["cc", "-c", "hello.c", "-o", "out/hello.o"].map(str::to_owned).to_vec(),
        environment_variables: vec![EnvironmentVariable { name: "LANG".to_owned(), value: "C".to_owned() }],
        output_paths: vec!["out/hello.o".to_owned(), "out/tree".to_owned()],
        ..Command::default()
    });
    let property = platform::Property { name: "OSFamily".to_owned(), value: "linux".to_owned() };
    probe.store(&Action {
        command_digest: Some(command),
        input_root_digest: Some(root),
        platform: Some(Platform { properties: vec![property] }),
        ..Action::default()
    })
}

fn result(large: &[u8], tree: Digest) -> ActionResult {
    let file =
        OutputFile { path: "out/hello.o".to_owned(), digest: Some(digest(large)), ..OutputFile::default() };
    let directory = OutputDirectory {
        path: "out/tree".to_owned(),
        tree_digest: Some(tree),
        ..OutputDirectory::default()
    };
    ActionResult {
        output_files: vec![file],
        output_directories: vec![directory],
        stdout_digest: Some(digest(b"said on stdout\n")),
        ..ActionResult::default()
    }
}
