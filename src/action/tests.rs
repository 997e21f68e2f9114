//! The key, by what must and what must not change it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction};
use proptest::prelude::*;

use super::*;
use crate::compiler::rustc::RustcCall;
use crate::compiler::rustc::inputs::RustcToolchain;
use crate::compiler::rustc::invocation::option_tables;
use crate::compiler::{CompilerCall as _, recall};
use crate::inputs::{Input, InputKind, Inputs, Toolchain};
use crate::invocation::Call;
use crate::roles::{Role, RolePath, Root, Roots};

fn digest<K>(text: &str) -> Digest<K> {
    Digest::of(DigestFunction::Blake3, text.as_bytes())
}

/// A checkout at some place.
struct Checkout {
    home: &'static str,
    target: String,
    arguments: String,
    env: Vec<(String, Option<Vec<u8>>)>,
    salt: Vec<u8>,
    native: Option<&'static str>,
    extern_content: &'static str,
    toolchain: &'static str,
    paths: PathTreatment,
    function: DigestFunction,
}

const ARGUMENTS: &str = "--crate-name util --edition=2021 util/src/lib.rs --error-format=json \
    --json=diagnostic-rendered-ansi,artifacts --crate-type lib --emit=dep-info,metadata,link \
    -C opt-level=0 -C opt-level=3 --cfg a --cfg b -C metadata=00 -C extra-filename=-00 \
    --out-dir TARGET/debug/deps -L dependency=TARGET/debug/deps --extern x=TARGET/debug/deps/libx.rmeta \
    -C link-arg=-THOME/ws/memory.x --cap-lints allow";

impl Checkout {
    fn at(home: &'static str) -> Self {
        Checkout {
            home,
            target: format!("{home}/ws/target"),
            arguments: ARGUMENTS.to_owned(),
            env: vec![("SOURCE_DATE_EPOCH".to_owned(), None)],
            salt: Vec::new(),
            native: None,
            extern_content: "x",
            toolchain: "1.95",
            paths: PathTreatment::Remapped,
            function: DigestFunction::Blake3,
        }
    }

    fn with(home: &'static str, change: impl FnOnce(&mut Self)) -> Self {
        let mut checkout = Self::at(home);
        change(&mut checkout);
        checkout
    }

    fn call(&self) -> Call {
        let line = self.arguments.replace("TARGET", &self.target).replace("HOME", self.home);
        let argv =
            std::iter::once("/t/bin/rustc").chain(line.split_whitespace()).map(OsString::from).collect();
        let cwd = PathBuf::from(self.home).join("ws");
        let env = [("OUT_DIR", format!("{}/debug/build/x/out", self.target))].into_iter().collect();
        Call { argv, cwd, env, umask: 0o22, stdin: None }
    }

    fn roots(&self) -> Roots {
        let root = |role, dir: String| Root { role, dir: PathBuf::from(dir) };
        Roots::new([
            root(Role::Workspace, format!("{}/ws", self.home)),
            root(Role::Target, self.target.clone()),
            root(Role::Cargo, format!("{}/.cargo", self.home)),
            root(Role::Sysroot, "/t".to_owned()),
        ])
    }

    fn inputs(&self) -> Inputs {
        let library = self
            .roots()
            .role_path(Path::new("/"), Path::new(&format!("{}/debug/deps/libx.rmeta", self.target)));
        Inputs {
            toolchain: self.toolchain().common,
            files: vec![Input {
                path: library,
                digest: Digest::of(self.function, self.extern_content.as_bytes()),
                is_executable: false,
                kind: InputKind::Extern,
            }],
            env: self.env.clone(),
            native: self.native.map(str::to_owned),
            salt: self.salt.clone(),
            made_crate: None,
        }
    }

    fn toolchain(&self) -> RustcToolchain {
        let common = Toolchain {
            tree: Digest::of(self.function, self.toolchain.as_bytes()),
            sysroot: "/t".into(),
            driver: "/t/bin/rustc".into(),
            called: "/t/bin/rustc".into(),
            banner: "rustc 1.95.0".to_owned(),
            host: "x86_64-unknown-linux-gnu".to_owned(),
        };
        RustcToolchain { common, commit_hash: "abc".to_owned() }
    }

    fn query(&self) -> Query {
        self.query_of(&self.call())
    }

    /// The query of a call that is made in this checkout.
    fn query_of(&self, call: &Call) -> Query {
        let subject = rustc(call).subject(call, &self.roots(), &self.toolchain(), self.paths, &[]);
        compose(&subject, call, &self.roots(), &self.inputs()).unwrap()
    }
}

fn rustc(call: &Call) -> RustcCall {
    RustcCall::parse(call, &|_: &Path| Err(std::io::Error::other("no files here"))).unwrap()
}

fn same(change: impl FnOnce(&mut Checkout)) -> bool {
    Checkout::at("/home/a").query().digest == Checkout::with("/home/a", change).query().digest
}

fn replaced(from: &'static str, to: &'static str) -> impl FnOnce(&mut Checkout) {
    move |checkout| {
        assert!(checkout.arguments.contains(from), "{from}");
        checkout.arguments = checkout.arguments.replace(from, to);
    }
}

fn path(text: &str) -> RolePath {
    RolePath::from_input_root(text.as_bytes()).unwrap()
}

#[test]
fn key_17_the_path_of_a_checkout_does_not_count() {
    let (a, b) = (Checkout::at("/home/a"), Checkout::at("/srv/builds/b/much/longer"));
    assert_eq!(a.query().digest, b.query().digest);
    let elsewhere = Checkout::with("/home/a", |checkout| checkout.target = "/tmp/other".to_owned());
    assert_eq!(a.query().digest, elsewhere.query().digest);
}

#[test]
fn key_18_the_path_counts_if_paths_are_kept() {
    let kept = |home| Checkout::with(home, |checkout| checkout.paths = PathTreatment::Kept).query().digest;
    assert_ne!(kept("/home/a"), kept("/home/b"));
    assert_ne!(kept("/home/a"), Checkout::at("/home/a").query().digest);
    assert_eq!(kept("/home/a"), kept("/home/a"));
}

#[test]
fn key_08_the_outputs_count() {
    assert!(!same(replaced("--emit=dep-info,metadata,link", "--emit=dep-info,metadata")));
    assert!(!same(replaced("extra-filename=-00", "extra-filename=-01")));
    assert!(!same(replaced("--crate-type lib", "--crate-type staticlib")));
    assert!(!same(replaced("--out-dir TARGET/debug/deps", "--out-dir TARGET/release/deps")));
}

#[test]
fn key_09_flags_count_in_their_order() {
    assert!(!same(replaced("-C opt-level=0 -C opt-level=3", "-C opt-level=3 -C opt-level=0")));
    assert!(!same(replaced("--cfg a --cfg b", "--cfg b --cfg a")));
    assert!(!same(replaced("--cap-lints allow", "--cap-lints warn")));
    assert!(!same(replaced("--cap-lints allow", "-Dwarnings")));
}

#[test]
fn key_11_arguments_are_never_joined() {
    assert!(!same(replaced("--cfg a --cfg b", "--cfg=a --cfg=b")));
}

#[test]
fn key_12_the_toolchain_counts_by_content() {
    assert!(!same(|checkout| checkout.toolchain = "1.95, patched"));
}

#[test]
fn key_09_the_processor_behind_native_counts() {
    let of = |native| Checkout::with("/home/a", |checkout| checkout.native = native).query().digest;
    assert_eq!(of(Some("znver5,+avx2")), of(Some("znver5,+avx2")));
    let all = [None, Some("znver5,+avx2"), Some("znver5,-avx2"), Some("znver4,+avx2")].map(of);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
}

#[test]
fn key_13_how_messages_look_does_not_count_in_the_query() {
    assert!(same(replaced(
        "--error-format=json",
        "--error-format=short --diagnostic-width=80 --color=never"
    )));
    assert!(same(replaced("--cap-lints allow", "--cap-lints allow -C incremental=TARGET/debug/incremental")));
    assert!(same(replaced("--json=diagnostic-rendered-ansi,artifacts", "--json=artifacts,diagnostic-short")));
}

#[test]
fn key_08_json_options_that_rustc_hashes_count() {
    // rustc hashes these two words with the crate.
    assert!(!same(replaced(",artifacts", ",artifacts,future-incompat")));
    assert!(!same(replaced(",artifacts", "")));
    assert!(same(replaced(
        "--json=diagnostic-rendered-ansi,artifacts",
        "--json=artifacts --json=diagnostic-rendered-ansi,artifacts"
    )));
}

#[test]
fn key_06_unset_and_empty_are_two_things() {
    let set = |value: Option<&str>| {
        let value = value.map(|value| value.as_bytes().to_vec());
        Checkout::with("/h", |checkout| checkout.env[0].1 = value).query().digest
    };
    assert_ne!(set(None), set(Some("")));
    assert_ne!(set(Some("")), set(Some("1")));
}

#[test]
fn key_14_externs_count_by_content() {
    assert!(!same(|checkout| checkout.extern_content = "y"));
}

#[test]
fn key_19_remaps_of_the_user_count_by_role_and_in_order() {
    let remap = "--cap-lints allow --remap-path-prefix=HOME/ws=/w --remap-path-prefix=/x=/y";
    let with =
        |home, flags: &'static str| Checkout::with(home, replaced("--cap-lints allow", flags)).query().digest;
    assert_eq!(with("/home/a", remap), with("/home/b", remap));
    assert_ne!(
        with("/home/a", remap),
        with("/home/a", "--cap-lints allow --remap-path-prefix=/x=/y --remap-path-prefix=HOME/ws=/w")
    );
}

#[test]
fn key_20_a_salt_makes_everything_another_key() {
    assert!(!same(|checkout| checkout.salt = b"team".to_vec()));
    assert!(same(|checkout| checkout.salt = Vec::new()));
    let salted = Checkout::with("/h", |checkout| checkout.salt = b"team".to_vec());
    let full = complete(&salted.query(), &[]).unwrap();
    let action =
        <kache_proto::reapi::Action as kache_proto::Message>::decode(full.action.bytes().clone()).unwrap();
    assert_eq!(action.salt, Bytes::from_static(b"kache 6\0team"));
}

#[test]
fn the_platform_of_an_action_holds_only_what_engines_choose_machines_by() {
    let kept = Checkout::with("/home/a", |checkout| {
        checkout.paths = PathTreatment::Kept;
        checkout.native = Some("znver5");
    });
    let path = b"/a\nb".to_vec();
    let with_line_break = Observation::Root { role: Role::Cargo, up: 0, is_real: true, path };
    let full = complete(&kept.query(), &[sample(), vec![with_line_break]].concat()).unwrap();
    let action =
        <kache_proto::reapi::Action as kache_proto::Message>::decode(full.action.bytes().clone()).unwrap();
    let properties = action.platform.unwrap().properties;
    let names: Vec<&str> = properties.iter().map(|property| &*property.name).collect();
    assert_eq!(names, ["ISA", "OSFamily"]);
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let file = full.files.iter().map(|(_, bytes)| text(bytes)).find(|text| text.contains("host ")).unwrap();
    let names: Vec<&str> = file.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    let roots = names.iter().filter(|name| name.starts_with("kache-root-")).count();
    assert!(names.is_sorted() && names.contains(&"kache-presentation") && roots >= 4, "{names:?}");
    assert_eq!(names.len(), roots + 5, "{names:?}");
}

#[test]
fn key_02_swapped_inputs_are_another_action() {
    let query = Checkout::at("/home/a").query();
    let seen = |one: &str, two: &str| {
        let file =
            |path_: &str, content: &str| Observation::File { path: path(path_), digest: digest(content) };
        complete(&query, &[file("ws/a.rs", one), file("ws/b.rs", two)]).unwrap().digest
    };
    assert_ne!(seen("1", "2"), seen("2", "1"));
}

fn root(up: u8, is_real: bool) -> Observation {
    Observation::Root { role: Role::Workspace, up, is_real, path: b"/home/a/ws".to_vec() }
}

fn sample() -> Vec<Observation> {
    vec![
        Observation::File { path: path("ws/util/src/lib.rs"), digest: digest("lib") },
        Observation::File { path: path("ws/util/src-gen.rs"), digest: digest("gen") },
        Observation::File { path: path("ws/util/src/a/b.rs"), digest: digest("b") },
        Observation::File { path: path("sysroot/lib/rustlib/src/rust/x.rs"), digest: digest("std") },
        Observation::Absent { path: path("ws/util/src/a.rs") },
        Observation::Absent { path: path("ws/util/src/b.rs") },
        Observation::Listing { path: path("ws/migrations"), digest: digest("m") },
        Observation::Env { name: "A".to_owned(), value: Some(b"1\xff".to_vec()) },
        Observation::Env { name: "B".to_owned(), value: None },
        Observation::Environment { digest: digest("names") },
        Observation::Link { path: path("ws/current"), text: b"v1".to_vec() },
        Observation::File { path: path("ws-up1/shared.txt"), digest: digest("shared") },
        Observation::Absent { path: path("ws-up2/shared.txt") },
        Observation::Absent { path: path("ws-above/.env") },
        root(0, false),
        root(2, false),
        root(0, true),
        Observation::Presentation { options: b"--color=always".to_vec() },
    ]
}

#[test]
fn key_01_every_observation_counts() {
    let query = Checkout::at("/home/a").query();
    let whole = complete(&query, &sample()).unwrap().digest;
    assert_ne!(whole, query.digest);
    assert_ne!(complete(&query, &[]).unwrap().digest, query.digest, "a query is no action");
    for left_out in 0..sample().len() {
        let mut fewer = sample();
        let gone = fewer.remove(left_out);
        assert_ne!(complete(&query, &fewer).unwrap().digest, whole, "{gone:?}");
    }
}

#[test]
fn key_03_absent_files_count() {
    let query = Checkout::at("/home/a").query();
    let absent = |paths: &[&str]| {
        let seen: Vec<_> = paths.iter().map(|one| Observation::Absent { path: path(one) }).collect();
        complete(&query, &seen).unwrap().digest
    };
    assert_ne!(absent(&["ws/a.rs"]), absent(&["ws/b.rs"]));
    assert_ne!(absent(&["ws/a.rs"]), absent(&["ws/a.rs", "ws/b.rs"]));
}

#[test]
fn key_05_a_file_with_two_contents_has_no_key() {
    let query = Checkout::at("/home/a").query();
    let seen = [Observation::File { path: path("out/debug/deps/libx.rmeta"), digest: digest("other") }];
    assert!(matches!(complete(&query, &seen), Err(ActionError::Conflict { .. })));
    let seen = [Observation::File { path: path("out/debug/deps/libx.rmeta"), digest: digest("x") }];
    assert_eq!(complete(&query, &seen).unwrap().digest, complete(&query, &[]).unwrap().digest);
}

#[test]
fn key_17_a_call_is_recalled_from_its_action_in_any_checkout() {
    let more = "--cap-lints allow --remap-path-prefix=HOME/ws=/w -L native=HOME/.cargo/lib -L/opt/lib \
        -L ../../elsewhere/lib --extern=y=HOME/ws/y.rlib -C linker=/usr/bin/cc -C incremental=inc \
        --color always";
    let env = |checkout: &mut Checkout| {
        checkout.env[0] = ("OUT_DIR".to_owned(), Some(b"/kache/out/debug/build/x/out".to_vec()));
    };
    let change = |checkout: &mut Checkout| {
        checkout.arguments = checkout.arguments.replace("--cap-lints allow", more);
        env(checkout);
    };
    let (a, b) = (Checkout::with("/home/a", change), Checkout::with("/srv/b/longer", change));
    let looks = rustc(&a.call()).task(&a.call(), &a.roots(), &a.query(), Vec::new()).presentation;
    let seen = [Observation::Presentation { options: looks.clone() }];
    let recalled = recall(&explain(&a.query(), &seen), &b.roots()).unwrap();
    assert_eq!(recalled.cwd, Path::new("/srv/b/longer/ws"));
    let out_dir = OsString::from("/srv/b/longer/ws/target/debug/build/x/out");
    assert_eq!(recalled.env, [(OsString::from("OUT_DIR"), out_dir)]);
    let call = Call { argv: recalled.argv, ..b.call() };
    let again = b.query_of(&call);
    assert_eq!(again.digest, a.query().digest, "{:?}", call.argv);
    let task = rustc(&call).task(&call, &b.roots(), &again, Vec::new());
    assert_eq!(task.presentation, looks, "{:?}", call.argv);
    // By its bare name, as cargo calls it: it is the same program.
    let bare = Call { argv: [&["rustc".into()], &a.call().argv[1..]].concat(), ..a.call() };
    let query = a.query_of(&bare);
    assert_eq!(query.digest, a.query().digest);
    assert_eq!(recall(&explain(&query, &[]), &b.roots()).unwrap().argv[0], "/t/bin/rustc");
    // A root that this checkout has not.
    let fewer = Roots::new(b.roots().iter().filter(|root| root.role != Role::Cargo).cloned());
    assert_eq!(recall(&explain(&a.query(), &[]), &fewer), None);
    assert_eq!(recall(&[], &b.roots()), None);
}

#[test]
fn key_22_the_order_in_which_files_are_found_does_not_count() {
    let query = Checkout::at("/home/a").query();
    let file = |number: usize| {
        let place = format!("ws/{}/{}{}.rs", number % 3, "a/".repeat(number % 4), number);
        Observation::File { path: path(&place), digest: digest(&number.to_string()) }
    };
    let mut seen: Vec<Observation> = (0..60).map(file).collect();
    let expected = complete(&query, &seen).unwrap().digest;
    for turn in 0..20 {
        seen.rotate_left(7);
        seen.swap(turn, 59 - turn);
        assert_eq!(complete(&query, &seen).unwrap().digest, expected);
    }
}

#[test]
fn key_22_a_stored_action_explains_itself_as_its_walk_does() {
    for function in [DigestFunction::Blake3, DigestFunction::Sha256] {
        let query = Checkout::with("/home/a", |checkout| checkout.function = function).query();
        let mut sample = sample();
        for observation in &mut sample {
            if let Observation::File { digest, .. } = observation {
                *digest = Digest::of(function, digest.hash.to_hex().as_bytes());
            }
        }
        let full = complete(&query, &sample).unwrap();
        let blobs: std::collections::HashMap<Digest, Bytes> = full.blobs().collect();
        for (digest, bytes) in &blobs {
            assert_eq!(*digest, Digest::of(function, bytes));
        }
        let stored = explain_stored(full.digest, &mut |digest| blobs.get(&digest).cloned()).unwrap();
        assert_eq!(stored, explain(&query, &sample));
        assert!(stored.len() > 40, "{}", stored.len());
        let error = explain_stored(full.digest, &mut |_| None).unwrap_err();
        assert!(error.to_string().contains("is not stored"), "{error}");
    }
}

#[test]
fn an_action_is_well_formed_and_names_no_path_of_the_checkout() {
    let query = Checkout::at("/home/a").query();
    let entries = explain(&query, &[]);
    let arguments: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.section == Section::Argument)
        .map(|entry| entry.value.as_str())
        .collect();
    let [shell, option, script, name, directory, program, ..] = arguments[..] else {
        panic!("{arguments:?}")
    };
    assert_eq!([shell, option, name, directory, program], ["sh", "-c", "sh", "ws", "../sysroot/bin/rustc"]);
    assert!(script.contains(r#" "--remap-path-prefix=$r/ws=." "#), "{script}");
    assert!(arguments.contains(&"util/src/lib.rs"));
    assert!(arguments.contains(&"../out/debug/deps"));
    assert!(arguments.contains(&"link-arg=-T/kache/ws/memory.x"));
    assert!(arguments.contains(&"x=../out/debug/deps/libx.rmeta"));
    assert!(entries.iter().all(|entry| !entry.value.contains("/home/a")), "{entries:#?}");
}

#[test]
fn a_source_named_absolutely_is_another_action() {
    // rustc writes it down as it was given.
    assert!(!same(replaced("util/src/lib.rs", "HOME/ws/util/src/lib.rs")));
}

#[test]
fn rst_10_a_random_name_does_not_count() {
    let trial = |name: &str, source: &'static str| {
        let checkout = Checkout::with("/home/a", |checkout| {
            checkout.arguments = format!(
                "--crate-name {name} --crate-type=lib --out-dir TARGET/debug/build/x/out --emit=llvm-ir -"
            );
        });
        let call = Call { stdin: Some(Bytes::from_static(source.as_bytes())), ..checkout.call() };
        let query = checkout.query_of(&call);
        (query.digest, rustc(&call).task(&call, &checkout.roots(), &query, Vec::new()))
    };
    let (one, task) = trial("autocfg_0123456789abcdef_0", "pub fn f() {}");
    assert_eq!(one, trial("autocfg_fedcba9876543210_1", "pub fn f() {}").0);
    assert_ne!(one, trial("autocfg_0123456789abcdef_0", "pub fn g() {}").0);
    assert_eq!(task.outputs[0].name.to_string(), format!("out/debug/build/x/out/{CONSTANT_NAME}.ll"));
    assert!(task.outputs[0].path.ends_with("autocfg_0123456789abcdef_0.ll"));
}

#[test]
fn a_question_has_a_key_and_no_outputs() {
    let checkout = Checkout::with("/home/a", |checkout| checkout.arguments = "-vV".to_owned());
    let call = checkout.call();
    let query = checkout.query_of(&call);
    assert_eq!(rustc(&call).task(&call, &checkout.roots(), &query, Vec::new()).outputs, []);
    let other = Checkout::with("/home/a", |checkout| checkout.toolchain = "other");
    let again = other.query_of(&call);
    assert_ne!(query.digest, again.digest);
}

#[test]
fn a_task_knows_its_outputs_and_origin() {
    let checkout = Checkout::at("/home/a");
    let call = checkout.call();
    let task = rustc(&call).task(&call, &checkout.roots(), &checkout.query(), Vec::new());
    let outputs: Vec<(OutputKind, String)> =
        task.outputs.iter().map(|output| (output.kind, output.name.to_string())).collect();
    assert_eq!(
        outputs,
        [
            (OutputKind::DepInfo, "out/debug/deps/util-00.d".to_owned()),
            (OutputKind::Metadata, "out/debug/deps/libutil-00.rmeta".to_owned()),
            (OutputKind::Rlib, "out/debug/deps/libutil-00.rlib".to_owned()),
        ]
    );
    assert_eq!(task.origin, Origin::Path);
    assert!(task.wants_notices);
    assert_eq!(task.earlier_step, Some("/home/a/ws/target/debug/build/x/output".into()));
    assert_eq!(task.depends_on, [PathBuf::from("/home/a/ws/target/debug/deps/libx.rmeta")]);
    assert_eq!((task.label.name.as_str(), task.label.kind.as_str()), ("util", "lib"));
}

#[test]
fn key_01_the_table_of_the_key_and_the_walk_agree() {
    let checkout = Checkout::with("/home/a", |checkout| checkout.env[0].1 = Some(b"1".to_vec()));
    let query = checkout.query();
    let (before, whole) = (explain_query(&query), explain(&query, &sample()));
    for section in Section::ALL {
        let said =
            |wanted: bool| KEY_PARTS.iter().any(|part| part.section == *section && part.in_query == wanted);
        let count = |entries: &[Entry]| entries.iter().filter(|entry| entry.section == *section).count();
        assert_eq!(said(true), count(&before) > 0, "{section:?} in the query");
        assert_eq!(said(false), count(&whole) > count(&before), "{section:?} in the action");
    }
}

#[test]
fn the_page_of_the_key_is_up_to_date() {
    let committed = include_str!("../../docs/cache-key.md");
    let page = page(&option_tables());
    if committed != page {
        let place = std::env::temp_dir().join("cache-key.md");
        std::fs::write(&place, page).unwrap();
        panic!("docs/cache-key.md is out of date; the new one is `{}`", place.display());
    }
}

fn role_path() -> impl Strategy<Value = RolePath> {
    let role = prop_oneof![
        Just(Role::Workspace),
        Just(Role::Target),
        Just(Role::Cargo),
        Just(Role::Sysroot),
        Just(Role::Absolute),
        any::<u8>().prop_map(Role::Base)
    ];
    let up = prop_oneof![Just(0), Just(1), any::<u8>()];
    (role, up, "[a-c]{1,3}(/[a-c]{1,3}){0,3}").prop_map(|(role, up, rest)| {
        let path = match up {
            u8::MAX => RolePath::everywhere_above(role, &*rest),
            up => RolePath::above(role, up, &*rest),
        };
        path.unwrap_or_else(|| RolePath::new(role, rest).unwrap())
    })
}

fn observation() -> impl Strategy<Value = Observation> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..6);
    prop_oneof![
        (role_path(), any::<u64>()).prop_map(|(path, size)| {
            let digest =
                Digest::new(DigestFunction::Blake3, digest::<kache_cas::digest::Blob>("x").hash, size);
            Observation::File { path, digest }
        }),
        role_path().prop_map(|path| Observation::Absent { path }),
        role_path().prop_map(|path| Observation::Listing { path, digest: digest("l") }),
        ("[A-Z]{1,4}", proptest::option::of(bytes()))
            .prop_map(|(name, value)| Observation::Env { name, value }),
        (role_path(), bytes()).prop_map(|(path, text)| Observation::Link { path, text }),
        any::<u8>().prop_map(|number| Observation::Environment { digest: digest(&number.to_string()) }),
        (bytes(), any::<u8>(), any::<bool>()).prop_map(|(path, up, is_real)| Observation::Root {
            role: Role::Cargo,
            up,
            is_real,
            path
        }),
        bytes().prop_map(|options| Observation::Presentation { options }),
    ]
}

fn set() -> impl Strategy<Value = ObservationSet> {
    (proptest::collection::btree_set(observation(), 0..12), any::<u64>()).prop_map(|(seen, number)| {
        ObservationSet { observations: seen.into_iter().collect(), action: digest(&number.to_string()) }
    })
}

proptest! {
    #[test]
    fn a_trail_is_read_as_it_was_written(sets in proptest::collection::vec(set(), 0..SETS_MAX)) {
        let trail = Trail { sets };
        prop_assert_eq!(Trail::decode(&trail.encode()), Ok(trail.clone()));
        prop_assert_eq!(Trail::from_result(&trail.to_result()), Ok(trail));
    }

    #[test]
    fn sto_09_malformed_trails_are_rejected(
        sets in proptest::collection::vec(set(), 1..3),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        noise in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = Trail { sets }.encode();
        let _ = Trail::decode(&noise);
        prop_assert!(Trail::decode(&bytes[..bytes.len() - 1]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Trail::decode(&bytes);
        for version in [TRAIL_VERSION - 1, TRAIL_VERSION + 1] {
            bytes[0] = version;
            prop_assert_eq!(Trail::decode(&bytes), Err(TrailError::Version(version)));
        }
    }

    #[test]
    fn key_22_the_order_of_observations_does_not_count(
        seen in proptest::collection::btree_set(observation(), 0..12),
        seed in any::<u64>(),
    ) {
        let query = Checkout::at("/home/a").query();
        let sorted: Vec<Observation> = seen.into_iter().collect();
        let mut mixed = sorted.clone();
        let mut state = seed;
        for at in (1..mixed.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            mixed.swap(at, (state >> 33) as usize % (at + 1));
        }
        let digest = |seen: &[Observation]| complete(&query, seen).map(|full| full.digest).map_err(|_| ());
        prop_assert_eq!(digest(&sorted), digest(&mixed));
    }
}
