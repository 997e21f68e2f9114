//! Tests of remotes with real files and variables: who may set them, what they mean, and what is never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kache_remote::{Authentication, Compression, Location, Secret, TlsIdentity, TokenCommand};

use super::*;
use crate::config::call_tests::Home;
use crate::config::{CompileSettings, ConfigSources, Environment, layer, list, load};

/// The only remote of a call.
fn one(home: &Home) -> RemoteSettings {
    let settings = home.settings();
    assert_eq!(settings.remote_problems, [""; 0]);
    assert_eq!(settings.remotes.len(), 1);
    settings.remotes[0].clone()
}

/// The only problem of a call, which has no other remote.
fn problem(home: &Home) -> String {
    let settings = home.settings();
    assert_eq!((settings.remotes.len(), settings.remote_problems.len()), (0, 1), "{settings:?}");
    settings.remote_problems[0].replace(&*home.path("").to_string_lossy(), "HOME/")
}

fn urls(settings: &CompileSettings) -> Vec<String> {
    settings.remotes.iter().map(|remote| remote.location.to_string()).collect()
}

fn config_of(home: &Home) -> crate::config::Config {
    let environment = Environment::of_call(home.variables.iter().cloned());
    load(&ConfigSources { environment, current_dir: Some(home.path("work/member")) }).unwrap()
}

/// Writes a file that only its owner may read.
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn without_remotes_there_are_none() {
    let settings = Home::new().variable("KACHE_REMOTE_HEADER", "a=b").variable("AWS_PROFILE", "x").settings();
    assert_eq!((settings.remotes.len(), settings.remote_problems.len()), (0, 0));
    assert!(Arc::ptr_eq(&settings.remotes, &Arc::default()), "no memory is needed for them");
}

#[test]
fn a_variable_names_a_remote() {
    let remote = one(&Home::new().variable("KACHE_REMOTE", "grpcs://cache.example"));
    assert_eq!(remote.location.to_string(), "grpcs://cache.example:443");
    assert!(remote.reads && remote.writes);
    let limits = remote.options.limits;
    assert_eq!((remote.lookup_max, remote.stall_max), (Duration::from_millis(250), Duration::from_secs(2)));
    assert_eq!((limits.connect, limits.concurrency), (Duration::from_secs(1), 16));
    assert_eq!(remote.options.compression, Compression::Zstd(3));
    assert_eq!(remote.options.s3, kache_remote::S3Options::default());
    assert_eq!(remote.options.version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn remotes_of_files_keep_their_order_and_a_variable_replaces_them() {
    let home = Home::new().user(
        "[[remote]]\nurl = \"file:///second\"\n[[remote]]\nurl = \"unix:/third\"\n[cache.remote]\nurl = \"http://first\"\n",
    );
    assert_eq!(urls(&home.settings()), ["http://first:80", "file:///second", "unix:/third"]);
    let home = home.variable("KACHE_REMOTE", "file:///only");
    assert_eq!(urls(&home.settings()), ["file:///only"]);
    let home = home.variable("KACHE_LOCAL_ONLY", "1");
    assert_eq!(urls(&home.settings()), [""; 0]);
}

#[test]
fn all_keys_of_a_table_are_read() {
    let home = Home::new().user(
        "[[remote]]\nurl = \"grpcs://cache.example\"\naccess = \"write\"\ninstance = \"main\"\ntoken = \"t0ken\"\n\
         headers = { x-key = \"k3y\" }\nca = \"ca.pem\"\ncert = \"~/c.pem\"\nkey = \"~/k.pem\"\nconnect_ms = 1\n\
         lookup_ms = 2\nstall_ms = 3\nconcurrency = 4\ncompression_level = 0\n",
    );
    for file in [".config/kache/ca.pem", "c.pem", "k.pem"] {
        write(&home.path(file), "");
    }
    let remote = one(&home);
    let options = &remote.options;
    assert_eq!((remote.reads, remote.writes), (false, true));
    assert_eq!(options.instance, "main");
    assert_eq!(options.authentication, Some(Authentication::Bearer(Secret::new("t0ken"))));
    assert_eq!(options.headers, [("x-key".to_owned(), Secret::new("k3y"))]);
    assert_eq!(options.tls.ca, Some(home.path(".config/kache/ca.pem")));
    let identity = TlsIdentity { cert: home.path("c.pem"), key: home.path("k.pem") };
    assert_eq!(options.tls.identity, Some(identity));
    assert_eq!(options.limits.connect, Duration::from_millis(1));
    assert_eq!((remote.lookup_max, remote.stall_max), (Duration::from_millis(2), Duration::from_millis(3)));
    assert_eq!((options.limits.concurrency, options.compression), (4, Compression::None));
}

#[test]
fn every_key_is_understood_and_its_example_is_right() {
    for key in KEYS {
        let text = format!("[[remote]]\n{}\n", key.example);
        let layer = layer::read(&text, Path::new("/f.toml"));
        assert_eq!((layer.errors.as_slice(), layer.remotes.len()), (&[][..], 1), "{}", key.name);
        assert_ne!(layer.remotes[0].0, RemoteEntry::new(layer.remotes[0].0.origin.clone()), "{}", key.name);
    }
}

#[test]
fn variables_change_the_first_remote() {
    let home = Home::new()
        .user(
            "[[remote]]\nurl = \"grpcs://a\"\nheaders = { A = \"1\", b = \"2\" }\ninstance = \"x\"\n\
             [[remote]]\nurl = \"grpcs://b\"\n",
        )
        .variable("KACHE_REMOTE_INSTANCE", "main")
        .variable("KACHE_REMOTE_HEADER", "a=3=4\n\n c = 5 \n")
        .variable("KACHE_REMOTE_READONLY", "1")
        .variable("KACHE_REMOTE_CA", "ca.pem");
    write(&home.path("work/member/ca.pem"), "");
    let settings = home.settings();
    assert_eq!(settings.remote_problems, [""; 0]);
    let [first, second] = &*settings.remotes else { panic!("{settings:?}") };
    let headers = [("b", "2"), ("a", "3=4"), ("c", "5")];
    let headers = headers.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    assert_eq!((first.options.instance.as_str(), first.options.headers.as_slice()), ("main", &headers[..]));
    assert_eq!(first.options.tls.ca, Some(home.path("work/member/ca.pem")));
    assert_eq!((second.options.instance.as_str(), second.options.headers.len()), ("", 0));
    assert_eq!(second.options.tls.ca, None);
    assert!(settings.remotes.iter().all(|remote| remote.reads && !remote.writes));
}

#[test]
fn writes_happen_only_where_a_variable_is_set() {
    let home = Home::new().user("[cache.remote]\nurl = \"file:///a\"\nwrites_if = \"MY_RUNNER\"\n");
    for _ in 0..2 {
        assert!(!one(&home).writes);
    }
    let home = home.variable("MY_RUNNER", "yes");
    for _ in 0..2 {
        assert!(one(&home).writes, "a variable that a file names is looked at");
    }
    assert!(!one(&Home { variables: home.variables[..1].to_vec(), ..home }).writes);
}

#[test]
fn the_settings_for_s3_that_users_have_are_understood() {
    let home = Home::new()
        .variable("KACHE_S3_BUCKET", "our-cache")
        .variable("KACHE_S3_ENDPOINT", "http://localhost:9000")
        .variable("KACHE_S3_ACCESS_KEY", "id")
        .variable("KACHE_S3_SECRET_KEY", "hunter2")
        .variable("KACHE_S3_CONCURRENCY", "3")
        .variable("KACHE_S3_POOL_IDLE_SECS", "7")
        .variable("KACHE_COMPRESSION_LEVEL", "9")
        .variable("AWS_PROFILE", "work");
    let remote = one(&home);
    assert_eq!(remote.location.to_string(), "s3://our-cache/artifacts");
    let s3 = &remote.options.s3;
    assert_eq!(s3.access_key, Some(("id".to_owned(), Secret::new("hunter2"))));
    assert_eq!((s3.endpoint.as_deref(), s3.region.as_deref()), (Some("http://localhost:9000"), None));
    let names: Vec<&str> = s3.environment.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["AWS_PROFILE", "HOME"]);
    let limits = remote.options.limits;
    assert_eq!((limits.concurrency, limits.idle), (3, Duration::from_secs(7)));
    assert_eq!(remote.options.compression, Compression::Zstd(9));

    let home = Home::new().user(
        "[cache]\ns3_concurrency = 5\n[cache.remote]\ntype = \"s3\"\nbucket = \"mine\"\nprefix = \"p\"\n\
         region = \"r\"\nprofile = \"work\"\n",
    );
    let remote = one(&home);
    assert_eq!(remote.location.to_string(), "s3://mine/p");
    assert_eq!(remote.options.s3.profile.as_deref(), Some("work"));
    assert_eq!(remote.options.limits.concurrency, 5);
    let home = home.variable("KACHE_S3_BUCKET", "theirs").variable("KACHE_S3_REGION", "s");
    let remote = one(&home);
    assert_eq!(remote.location.to_string(), "s3://theirs/p");
    assert_eq!(remote.options.s3.region.as_deref(), Some("s"));
    let home = home.variable("KACHE_REMOTE", "s3://other/x");
    let remote = one(&home);
    assert_eq!(
        (remote.location.to_string().as_str(), remote.options.s3.region.as_deref()),
        ("s3://other/x", Some("s"))
    );

    // The variables describe a bucket, so they replace a short form that describes something else.
    let home = Home::new()
        .user("[cache.remote]\nurl = \"grpcs://a\"\n[[remote]]\nurl = \"s3://bbb\"\n")
        .variable("KACHE_S3_BUCKET", "aaa")
        .variable("KACHE_S3_ACCESS_KEY", "id")
        .variable("KACHE_S3_SECRET_KEY", "hunter2");
    let settings = home.settings();
    assert_eq!(urls(&settings), ["s3://aaa/artifacts", "s3://bbb"]);
    let has_key = settings.remotes.iter().map(|remote| remote.options.s3.access_key.is_some());
    assert_eq!(has_key.collect::<Vec<_>>(), [true, false], "a key in a variable is for one remote");

    let half = Home::new().variable("KACHE_REMOTE", "s3://bucket").variable("KACHE_S3_SECRET_KEY", "hunter2");
    assert!(problem(&half).contains("only one of KACHE_S3_ACCESS_KEY and KACHE_S3_SECRET_KEY is set"));
}

#[test]
fn net_01_what_cannot_be_understood_is_a_problem_and_no_error() {
    for (text, expected) in [
        ("url = \"ftp://x\"", "there is no kind of remote with the scheme `ftp`"),
        ("url = \"grpc://\"", "the URL names no host"),
        ("access = \"read\"", "it has neither a `url` nor a `bucket`"),
        ("url = \"s3://abc\"\nbucket = \"abc\"", "it has a `url` and a `bucket`"),
        ("bucket = \"a/b\"", "the bucket's name has"),
        ("type = \"gcs\"\nbucket = \"abc\"", "its `type` is not `s3`"),
        ("url = \"s3://abc\"\nendpoint = \"nonsense\"", "the endpoint is not a URL"),
        ("url = \"grpcs://x\"\nheaders = { \"a b\" = \"hunter2\" }", "the header `a b` cannot be sent"),
        ("url = \"grpcs://x\"\nheaders = { Host = \"hunter2\" }", "the header `Host` cannot be sent"),
        ("url = \"grpcs://x\"\ncert = \"/c\"", "it has a `cert` without a `key`"),
        ("url = \"grpcs://x\"\nkey = \"/k\"", "it has a `key` without a `cert`"),
        ("url = \"grpcs://x\"\nca = \"/nonexistent/ca\"", "failed to read `/nonexistent/ca`"),
        ("url = \"grpcs://x\"\ntoken_file = \"/nonexistent/t\"", "`/nonexistent/t` cannot be read"),
        ("url = \"https://u:hunter2@x\"\ntoken = \"hunter2\"", "keep one of them"),
    ] {
        let found = problem(&Home::new().user(&format!("[[remote]]\n{text}\n")));
        assert!(found.starts_with("the remote of HOME/.config/kache/config.toml:1 is not used: "), "{found}");
        assert!(found.contains(expected) && !found.contains("hunter2"), "{found}");
    }
    for (name, value) in [
        ("KACHE_REMOTE", "http://me:hunter2@host:port"),
        ("KACHE_REMOTE", "hunter2"),
        ("KACHE_REMOTE_HEADER", "hunter2"),
        ("KACHE_REMOTE_HEADER", "x y=hunter2"),
    ] {
        let home = Home::new().variable("KACHE_REMOTE", "grpcs://host").variable(name, value);
        let found = problem(&home);
        assert!(found.contains("KACHE_REMOTE") && !found.contains("hunter2"), "{found}");
    }
}

#[test]
fn a_remote_with_a_problem_does_not_stop_the_others() {
    let home = Home::new().user("[[remote]]\nurl = \"x\"\n[[remote]]\nurl = \"file:///b\"\n");
    let settings = home.settings();
    assert_eq!((urls(&settings), settings.remote_problems.len()), (vec!["file:///b".to_owned()], 1));
}

#[test]
fn switches_that_cannot_be_understood_count_and_are_reported() {
    let home = Home::new().variable("KACHE_REMOTE", "file:///a").variable("KACHE_REMOTE_READONLY", "maybe");
    let settings = home.settings();
    assert!(!settings.remotes[0].writes);
    assert_eq!(settings.remote_problems, ["KACHE_REMOTE_READONLY is neither `1` nor `0`, and counts as `1`"]);
    let settings = home.variable("KACHE_LOCAL_ONLY", "maybe").settings();
    assert_eq!((settings.remotes.len(), settings.remote_problems.len()), (0, 1));
}

#[test]
fn mistakes_in_a_table_have_a_position_and_show_no_value() {
    for (text, expected) in [
        (
            "[[remote]]\nurll = \"hunter2\"",
            ":2:1: unknown key `remote.urll`\nhint: did you mean `remote.url`?",
        ),
        (
            "[cache.remote]\nconnection_limit = 3",
            ":2:1: unknown key `cache.remote.connection_limit`\nhint: docs/",
        ),
        (
            "[[remote]]\ntoken = [\"hunter2\"]",
            ":2:9: invalid value for `remote.token`\nhint: expected a text",
        ),
        (
            "[[remote]]\naccess = \"hunter2\"",
            ":2:10: invalid value for `remote.access`\nhint: expected one of",
        ),
        (
            "[[remote]]\nlookup_ms = \"1\"",
            ":2:13: invalid value for `remote.lookup_ms`\nhint: expected a number",
        ),
        ("[[remote]]\ncompression_level = 23", ":2:21: invalid value for `remote.compression_level`\nhint: "),
        (
            "[remote]\nurl = \"hunter2\"",
            ": `remote` is a list of tables, not a table\nhint: write `[[remote]]`",
        ),
        ("cache.remote = \"hunter2\"", ":1:16: `cache.remote` is a table, not a single value\nhint: "),
        (
            "remote = [\"hunter2\"]",
            ":1:11: a remote is a table, not a single value\nhint: write `[[remote]]`",
        ),
    ] {
        let error = Home::new().user(text).try_settings().unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
    }
    let many = "[[remote]]\nurl = \"file:///a\"\n";
    assert_eq!(Home::new().user(&many.repeat(REMOTES_MAX)).settings().remotes.len(), REMOTES_MAX);
    let error = Home::new().user(&many.repeat(REMOTES_MAX + 1)).try_settings().unwrap_err();
    assert!(error.contains("more remotes than REMOTES_MAX"), "{error}");
}

#[test]
fn a_project_file_cannot_name_a_remote() {
    for text in ["[[remote]]\nurl = \"http://evil\"", "[cache.remote]\nheaders = { x-key = \"stolen\" }"] {
        let error = Home::new().user("remote = []").project(text).try_settings().unwrap_err();
        assert!(
            error.contains(".kache.toml:1:1: a remote cannot be set in a project's file"),
            "{text}: {error}"
        );
    }
    for text in ["cache.s3_concurrency = 1", "cache.compression_level = 1", "cache.s3_pool_idle_secs = 1"] {
        let error = Home::new().project(text).try_settings().unwrap_err();
        assert!(error.contains("cannot be set in a project's file"), "{text}: {error}");
    }
}

#[test]
fn credentials_do_not_go_to_another_machine_without_encryption() {
    for text in [
        "url = \"http://me:hunter2@cache.example\"",
        "url = \"grpc://cache.example\"\ntoken = \"hunter2\"",
        "url = \"grpc://cache.example\"\nheaders = { x-key = \"hunter2\" }",
        "url = \"grpc://cache.example\"\ntoken_command = [\"hunter2\"]",
    ] {
        let home = Home::new().user(&format!("[[remote]]\n{text}\n"));
        let found = problem(&home);
        assert!(found.contains("without encryption") && !found.contains("hunter2"), "{found}");
        one(&home.variable("KACHE_REMOTE_ALLOW_CLEARTEXT_CREDENTIALS", "1"));
        one(&Home::new().user(&format!("[[remote]]\n{text}\nallow_cleartext_credentials = true\n")));
        one(&Home::new().user(&format!("[[remote]]\n{}\n", text.replace("cache.example", "localhost"))));
    }
    one(&Home::new().variable("KACHE_REMOTE", "grpc://cache.example"));
    let unclear = Home::new()
        .variable("KACHE_REMOTE", "http://me:hunter2@cache.example")
        .variable("KACHE_REMOTE_ALLOW_CLEARTEXT_CREDENTIALS", "maybe");
    problem(&unclear);
}

#[test]
fn a_token_comes_from_a_file_that_nobody_else_can_read() {
    let home = Home::new().user("[[remote]]\nurl = \"grpcs://x\"\ntoken_file = \"token\"\n");
    let path = home.path(".config/kache/token");
    let token = |home: &Home| one(home).options.authentication;
    assert!(problem(&home).contains("cannot be read"));
    for text in ["t0ken\n", "other"] {
        write(&path, text);
        assert_eq!(
            token(&home),
            Some(Authentication::Bearer(Secret::new(text.trim()))),
            "a new token is noticed"
        );
    }
    write(&path, " \n");
    assert!(problem(&home).contains("is empty"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(problem(&home).contains("run `chmod 600 HOME/.config/kache/token`"));
}

#[test]
fn a_key_that_others_can_read_is_a_problem() {
    let home = Home::new().user("[[remote]]\nurl = \"grpcs://x\"\ncert = \"c\"\nkey = \"k\"\n");
    write(&home.path(".config/kache/c"), "");
    let key = home.path(".config/kache/k");
    fs::write(&key, "").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(problem(&home).contains("run `chmod 600 HOME/.config/kache/k`"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    one(&home);
}

#[test]
fn dmn_01_a_command_for_tokens_gets_the_variables_of_the_call() {
    let home = Home::new()
        .user("[[remote]]\nurl = \"grpcs://x\"\ntoken_command = [\"print-token\", \"-q\"]\n")
        .variable("PATH", "/my/bin");
    let command = one(&home).options.authentication;
    let own_home = home.path("").display().to_string().trim_end_matches('/').to_owned();
    let environment =
        vec![("PATH".to_owned(), Secret::new("/my/bin")), ("HOME".to_owned(), Secret::new(own_home))];
    let argv = vec!["print-token".to_owned(), "-q".to_owned()];
    assert_eq!(command, Some(Authentication::Command(TokenCommand { argv, environment })));
}

#[test]
fn net_06_no_secret_is_shown() {
    let home = Home::new()
        .user(
            "[cache.remote]\nurl = \"https://me:hunter2@cache.example/p\"\nheaders = { x-key = \"hunter2\" }\n\
             writes_if = \"CI\"\n[[remote]]\nurl = \"hunter2\"\ntoken = \"hunter2\"\nendpoint = \"hunter2\"\n",
        )
        .variable("KACHE_S3_SECRET_KEY", "hunter2")
        .variable("AWS_SESSION_TOKEN", "hunter2")
        .variable("KACHE_REMOTE_HEADER", "x-other=hunter2");
    let config = config_of(&home);
    let listed = list(&config);
    for shown in [
        "url = \"https://cache.example:443/p\"",
        "headers = { x-key = \"...\", x-other = \"...\" }",
        "writes_if = \"CI\"",
        "url = \"...\"",
        "token = \"...\"",
    ] {
        assert!(listed.lines().any(|line| line == shown), "{shown} is not in {listed}");
    }
    assert!(listed.contains("config.toml:1\n"), "{listed}");
    let again = layer::read(&listed, Path::new("list"));
    assert_eq!((again.errors.as_slice(), again.remotes.len()), (&[][..], 2), "{listed}");
    let settings = home.settings();
    let environment = Environment::of_call(home.variables.iter().cloned());
    for text in [listed, format!("{config:?}"), format!("{settings:?}{environment:?}{:?}", home.configs)] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(matches!(settings.remotes[0].location, Location::Http(_)));
}

#[test]
fn a_folder_may_have_a_limit_and_nothing_else() {
    let limited = |url: &str| Home::new().user(&format!("[[remote]]\nurl = '{url}'\nmax_size = '50GB'"));
    assert_eq!(one(&limited("file:///mnt/kache")).options.size_bytes_max, Some(50_000_000_000));
    let why = problem(&limited("grpc://localhost:1"));
    assert!(why.contains("it has a `max_size`, which only folders (`file:///`) have"), "{why}");
    assert!(list(&config_of(&limited("file:///mnt/kache"))).contains("max_size = \"50GB\""));
}

#[test]
fn net_06_a_key_of_remotes_has_the_value_that_the_list_shows() {
    let home = Home::new().user(
        "[cache.remote]\nbucket = 'b'\n[[remote]]\nurl = 'https://u:hunter2@h'\ntoken = 'hunter2'\nlookup_ms = 9\n",
    );
    let config = config_of(&home);
    let of = |name: &str| crate::config::values_of_remotes(&config, name);
    let some = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
    assert_eq!(of("remote.url"), some(&["https://h:443"]));
    assert_eq!(of("remote.token"), some(&["..."]));
    assert_eq!(of("remote.lookup_ms"), some(&["9"]));
    assert_eq!((of("cache.remote.bucket"), of("remote.bucket")), (some(&["b"]), some(&["b"])));
    assert_eq!((of("cache.remote.url"), of("remote.colour"), of("cache.dir")), (some(&[]), None, None));
}

#[test]
fn net_06_a_file_with_a_secret_that_others_can_read_is_found() {
    let exposed = |text: &str, mode: u32| {
        let home = Home::new().user(text);
        let file = home.path(".config/kache/config.toml");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        exposed_files(&config_of(&home)) == [file]
    };
    let token = "[[remote]]\nurl = 'grpcs://h'\ntoken = 't'";
    assert!(exposed(token, 0o644) && exposed(token, 0o640) && !exposed(token, 0o600));
    assert!(exposed("[[remote]]\nurl = 'https://u:p@h'", 0o644));
    assert!(exposed("[[remote]]\nurl = 'grpcs://h'\nheaders = { x = 'y' }", 0o644));
    assert!(!exposed("[[remote]]\nurl = 'grpcs://h'\ntoken_file = '/t'", 0o644));
}
