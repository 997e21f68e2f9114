//! Clients of the served port cannot change the builds of this machine unless `serve.trust_uploads` allows it.
//!
//! A client that reaches the port can compute the key of everything that a compile looks up, and may upload an
//! action result under it. Each test uploads what an attacker would.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use kache_cas::{Digest, DigestFunction, Hash};
use kache_proto::Message as _;
use kache_proto::reapi::action_cache_client::ActionCacheClient;
use kache_proto::reapi::batch_update_blobs_request::Request as Upload;
use kache_proto::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use kache_proto::reapi::digest_function::Value;
use kache_proto::reapi::{
    self, ActionResult, BatchReadBlobsRequest, BatchUpdateBlobsRequest, GetActionResultRequest,
    UpdateActionResultRequest,
};
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::home::{Home, eventually, rustc};
use crate::report::Call;
use crate::tree::Tree;

const BLAKE3: DigestFunction = DigestFunction::Blake3;

/// The output of the program that was compiled from the sources, and of the one that a client uploads.
const COMPILED: &str = "compiled from the sources";
const UPLOADED: &str = "uploaded by a client";

/// A home whose daemon listens on a loopback port, without credentials.
struct Served {
    home: Home,
    port: u16,
    runtime: Runtime,
}

impl Served {
    fn new(settings: &[(&str, &str)]) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let home = Home::without_daemon().with("KACHE_SERVE_LISTEN", &format!("127.0.0.1:{port}"));
        let home = settings.iter().fold(home, |home, (name, value)| home.with(name, value));
        home.start();
        eventually("the port's listener", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Served { home, port, runtime }
    }

    /// Builds a package with kache in a worktree of its own.
    fn build(&self, name: &str) -> (Tree, Call) {
        let tree = self.home.tree(name);
        tree.write_all(&[
            ("Cargo.toml", "[package]\nname = \"prog\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"prog\"\nversion = \"0.1.0\"\n"),
            ("src/main.rs", &format!("fn main() {{ println!(\"{COMPILED}\"); }}\n")),
        ]);
        let built = self.home.cargo(&tree, &["build"]).ok();
        let call = built.calls.compiles().next().unwrap().clone();
        (tree, call)
    }

    fn channel(&self) -> Channel {
        let address = format!("http://127.0.0.1:{}", self.port);
        self.runtime.block_on(Channel::from_shared(address).unwrap().connect()).unwrap()
    }

    fn get(&self, action: Hash, instance: &str) -> Result<ActionResult, Status> {
        let _runtime = self.runtime.enter();
        let mut client = ActionCacheClient::new(self.channel());
        let request = GetActionResultRequest {
            instance_name: instance.to_owned(),
            action_digest: Some(named(action)),
            digest_function: Value::Blake3 as i32,
            ..GetActionResultRequest::default()
        };
        self.runtime.block_on(client.get_action_result(request)).map(tonic::Response::into_inner)
    }

    fn update(&self, action: Hash, result: &ActionResult, instance: &str) -> Result<(), Status> {
        let _runtime = self.runtime.enter();
        let mut client = ActionCacheClient::new(self.channel());
        let request = UpdateActionResultRequest {
            instance_name: instance.to_owned(),
            action_digest: Some(named(action)),
            action_result: Some(result.clone()),
            digest_function: Value::Blake3 as i32,
            ..UpdateActionResultRequest::default()
        };
        self.runtime.block_on(client.update_action_result(request)).map(drop)
    }

    /// Uploads over HTTP, which supports SHA-256 only. Returns the status.
    fn put(&self, path: &str, result: &ActionResult) -> String {
        let body = result.encode_to_vec();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let (port, len) = (self.port, body.len());
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    fn insert(&self, bytes: &[u8]) -> reapi::Digest {
        let _runtime = self.runtime.enter();
        let digest = wire(&Digest::of(BLAKE3, bytes));
        let mut client = ContentAddressableStorageClient::new(self.channel());
        let upload =
            Upload { digest: Some(digest.clone()), data: bytes.to_vec().into(), ..Upload::default() };
        let request = BatchUpdateBlobsRequest {
            requests: vec![upload],
            digest_function: Value::Blake3 as i32,
            ..BatchUpdateBlobsRequest::default()
        };
        let answer = self.runtime.block_on(client.batch_update_blobs(request)).unwrap().into_inner();
        assert_eq!(answer.responses[0].status.as_ref().map_or(0, |status| status.code), 0, "{answer:?}");
        digest
    }

    fn read(&self, digest: &reapi::Digest) -> Vec<u8> {
        let _runtime = self.runtime.enter();
        let mut client = ContentAddressableStorageClient::new(self.channel());
        let request = BatchReadBlobsRequest {
            digests: vec![digest.clone()],
            digest_function: Value::Blake3 as i32,
            ..BatchReadBlobsRequest::default()
        };
        let answer = self.runtime.block_on(client.batch_read_blobs(request)).unwrap().into_inner();
        answer.responses[0].data.to_vec()
    }

    /// A copy of this call's result that contains another program.
    fn forged(&self, call: &Call) -> ActionResult {
        let mut result = self.get(hash(&call.action), "").unwrap();
        let sources = self.home.tree("attacker");
        sources.write("x.rs", format!("fn main() {{ println!(\"{UPLOADED}\"); }}"));
        let mut compiler = Command::new(rustc());
        compiler.current_dir(sources.path()).args(["-Cstrip=symbols", "-oprogram", "x.rs"]);
        assert!(compiler.status().unwrap().success());
        let program = self.insert(&fs::read(sources.join("program")).unwrap());
        let is_program = |path: &str| !path.ends_with(".d");
        let forged = result.output_files.iter_mut().find(|file| is_program(&file.path)).unwrap();
        forged.digest = Some(program);
        result
    }

    fn explain(&self, call: &Call) -> String {
        self.home.kache(&["explain", &call.action]).ok_unwatched().stdout
    }
}

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

fn named(action: Hash) -> reapi::Digest {
    reapi::Digest { hash: action.to_hex(), size_bytes: 1 }
}

fn wire(digest: &Digest) -> reapi::Digest {
    reapi::Digest { hash: digest.hash.to_hex(), size_bytes: i64::try_from(digest.size_bytes).unwrap() }
}

/// A trail that leads to another action.
fn redirected(trail: &ActionResult, from: Hash, to: Hash) -> ActionResult {
    let mut bytes = trail.stdout_raw.to_vec();
    let at = bytes.windows(Hash::LEN).position(|window| window == from.0).unwrap();
    bytes[at..at + Hash::LEN].copy_from_slice(&to.0);
    ActionResult { stdout_raw: bytes.into(), ..trail.clone() }
}

#[test]
fn net_08_a_client_cannot_replace_the_result_of_a_compile() {
    let served = Served::new(&[]);
    let (one, call) = served.build("one");
    assert_eq!(one.prints("target/debug/prog"), COMPILED);
    assert!(served.explain(&call).contains("result\n  compiled on this machine\n"));
    let (action, forged) = (hash(&call.action), served.forged(&call));
    let made = served.get(action, "").unwrap();
    // The upload is accepted, as the protocol demands, and stored in another instance.
    served.update(action, &forged, "").unwrap();
    served.update(action, &forged, "main").unwrap();
    for path in ["", "/main"] {
        assert_eq!(served.put(&format!("{path}/ac/{}", call.action), &forged), "200");
    }
    let (two, again) = served.build("two");
    assert!(again.is_hit(), "{again:?}");
    assert_eq!(two.prints("target/debug/prog"), COMPILED);
    assert_eq!(served.get(action, "").unwrap(), made, "clients can read results of local compiles");
    let explained = served.explain(&call);
    assert!(explained.contains("  compiled on this machine\n  another one was uploaded"), "{explained}");
}

#[test]
fn net_08_a_client_cannot_redirect_a_lookup() {
    let served = Served::new(&[]);
    let (_, call) = served.build("one");
    let (action, query, forged) = (hash(&call.action), hash(&call.query), served.forged(&call));
    let elsewhere = BLAKE3.hash(b"an action of the attacker's");
    served.update(elsewhere, &forged, "").unwrap();
    let trail = redirected(&served.get(query, "").unwrap(), action, elsewhere);
    served.update(query, &trail, "").unwrap();
    let (two, again) = served.build("two");
    assert!(again.is_hit() && again.action == call.action, "{again:?}");
    assert_eq!(two.prints("target/debug/prog"), COMPILED);
}

/// Records about crates, builds and quarantined actions have keys that a client can compute, too.
#[test]
fn net_08_a_client_cannot_quarantine_an_action() {
    let (_, known) = Served::new(&[]).build("one");
    let served = Served::new(&[]);
    let record = [b"kache quarantine 1\0", &hash(&known.action).0[..]].concat();
    let result = ActionResult { stdout_raw: "0/1 out/debug/prog".into(), ..ActionResult::default() };
    served.update(BLAKE3.hash(&record), &result, "").unwrap();
    let (_, call) = served.build("one");
    assert_eq!((&*call.action, &*call.not_stored), (&*known.action, ""), "{call:?}");
    let (_, again) = served.build("two");
    assert!(again.is_hit(), "{again:?}");
}

/// The name of the local instance, and other names that could be read as it.
#[test]
fn net_08_no_instance_name_gives_access_to_local_results() {
    let served = Served::new(&[]);
    let (_, call) = served.build("one");
    let (action, forged) = (hash(&call.action), served.forged(&call));
    for name in ["actions/made-here", "/actions/made-here", "actions/made-here/", "actions//made-here"] {
        for status in [served.update(action, &forged, name), served.get(action, name).map(drop)] {
            assert_eq!(status.unwrap_err().code(), Code::InvalidArgument, "{name}");
        }
        let answer = served.put(&format!("/{name}/ac/{}", call.action), &forged);
        assert_eq!(answer, "400", "{name}");
    }
    for name in ["ACTIONS/made-here", "actions%2Fmade-here", "actions /made-here", "made-here"] {
        served.update(action, &forged, name).unwrap();
    }
    for name in ["%61ctions/made-here", "actions%2Fmade-here", "actions%2fmade-here", "./actions/made-here"] {
        let answer = served.put(&format!("/{name}/ac/{}", call.action), &forged);
        assert_eq!(answer, "400", "{name}");
    }
    let (two, again) = served.build("two");
    assert!(again.is_hit(), "{again:?}");
    assert_eq!(two.prints("target/debug/prog"), COMPILED);
}

/// A client uploads everything that a build needs to a store without local results.
#[test]
fn net_08_uploads_are_used_if_the_settings_trust_them() {
    let from = Served::new(&[]);
    let (_, call) = from.build("one");
    let (action, query, forged) = (hash(&call.action), hash(&call.query), from.forged(&call));
    let trail = from.get(query, "").unwrap();
    for trusts in [false, true] {
        let to = Served::new(&[("KACHE_SERVE_TRUST_UPLOADS", &trusts.to_string())]);
        for file in &forged.output_files {
            to.insert(&from.read(file.digest.as_ref().unwrap()));
        }
        to.update(action, &forged, "").unwrap();
        to.update(query, &trail, "").unwrap();
        let (tree, again) = to.build("one");
        assert_eq!(again.is_hit(), trusts, "{again:?}");
        assert_eq!(tree.prints("target/debug/prog"), if trusts { UPLOADED } else { COMPILED });
        let report = to.home.kache(&["report", "--format", "json"]).ok_unwatched().stdout;
        assert_eq!(report.contains("\"uploaded\""), trusts, "{report}");
        // From now on results of local compiles are preferred, and a client's quarantine never counts.
        if !trusts {
            let (two, hit) = to.build("two");
            assert!(hit.is_hit(), "{hit:?}");
            assert_eq!(two.prints("target/debug/prog"), COMPILED);
        }
    }
}
