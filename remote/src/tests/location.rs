//! What URLs mean, and that no message shows a password.

use proptest::prelude::*;

use crate::{Authentication, HttpLocation, Location, ReapiLocation, S3Location};

fn tcp(host: &str, port: u16, is_tls: bool) -> Location {
    Location::Reapi(ReapiLocation::Tcp { host: host.into(), port, is_tls })
}

fn http(host: &str, port: u16, is_tls: bool, prefix: &str) -> Location {
    Location::Http(HttpLocation { host: host.into(), port, is_tls, prefix: prefix.into() })
}

fn s3(bucket: &str, prefix: &str) -> Location {
    Location::S3(S3Location { bucket: bucket.into(), prefix: prefix.into() })
}

#[test]
fn right_urls_are_understood_and_printed() {
    let cases = [
        ("grpc://host:9092", tcp("host", 9092, false), "grpc://host:9092"),
        ("GRPCS://host/", tcp("host", 443, true), "grpcs://host:443"),
        ("grpc://[::1]:50051", tcp("::1", 50051, false), "grpc://[::1]:50051"),
        ("unix:/run/c.sock", Location::Reapi(ReapiLocation::Unix("/run/c.sock".into())), "unix:/run/c.sock"),
        (
            "unix:///run/c.sock",
            Location::Reapi(ReapiLocation::Unix("/run/c.sock".into())),
            "unix:/run/c.sock",
        ),
        ("http://host", http("host", 80, false, ""), "http://host:80"),
        (" https://host//a/b// ", http("host", 443, true, "a/b"), "https://host:443/a/b"),
        ("http://user:pw@10.0.0.1:8080/x", http("10.0.0.1", 8080, false, "x"), "http://10.0.0.1:8080/x"),
        ("https://[fe80::2]/x/", http("fe80::2", 443, true, "x"), "https://[fe80::2]:443/x"),
        ("s3://bucket", s3("bucket", ""), "s3://bucket"),
        ("s3://my-bucket.x/a/b/", s3("my-bucket.x", "a/b"), "s3://my-bucket.x/a/b"),
        ("file:///mnt/cache/", Location::Dir("/mnt/cache".into()), "file:///mnt/cache"),
        ("file:///mnt/a%20b%25", Location::Dir("/mnt/a b%".into()), "file:///mnt/a b%25"),
    ];
    for (text, location, shown) in cases {
        let (parsed, _) = Location::parse(text).expect(text);
        assert_eq!(parsed, location, "{text}");
        assert_eq!(parsed.to_string(), shown, "{text}");
        assert_eq!(Location::parse(shown).expect(shown).0, location, "{shown}");
    }
}

#[test]
fn wrong_urls_are_explained() {
    let cases = [
        ("", "begins with"),
        ("host:9092", "begins with"),
        ("ftp://host", "scheme `ftp`"),
        ("grpc://", "names no host"),
        ("grpc://:80", "names no host"),
        ("grpc://host:0", "port"),
        ("grpc://host:+5", "port"),
        ("grpc://host:65536", "port"),
        ("grpc://::1:80", "brackets"),
        ("grpc://[::1", "brackets"),
        ("grpc://[zz]:1", "neither a name"),
        ("grpc://[::1]80", "port"),
        ("grpc://host:80/instance", "instance has a setting"),
        ("http://bücher.example", "in ASCII"),
        ("http://host/a b", "spaces"),
        ("http://host/a?b", "`?`"),
        ("http://host/a/../b", "`..`"),
        ("http://host/a//b", "no empty parts"),
        ("s3://", "bucket"),
        ("s3://a/b", "bucket"),
        ("file://dir", "not absolute"),
        ("unix:run/sock", "not absolute"),
        ("unix:", "not absolute"),
    ];
    for (text, part) in cases {
        let error = Location::parse(text).expect_err(text).to_string();
        assert!(error.contains(part) && error.contains("looks like"), "{text}: {error}");
        let example = error.rsplit('`').nth(1).expect("an example in backticks");
        assert!(Location::parse(example).is_ok(), "{example}");
    }
}

#[test]
fn buckets_and_prefixes_may_come_from_two_settings() {
    let location = S3Location::new("bucket", "/team a/artifacts/").expect("right settings");
    assert_eq!((location.bucket.as_str(), location.prefix.as_str()), ("bucket", "team a/artifacts"));
    assert_eq!(S3Location::new("bucket", "").expect("right settings").prefix, "");
    for (bucket, prefix) in [("a/b", ""), ("", ""), ("bucket", "a/../b"), ("bucket", "a//b")] {
        assert!(S3Location::new(bucket, prefix).is_err(), "{bucket} {prefix}");
    }
}

#[test]
fn users_and_passwords_are_decoded() {
    let cases = [
        ("http://me:pw@host", "me", "pw"),
        ("http://me:p%40w%2F@host/x", "me", "p@w/"),
        ("http://me:a:b@host", "me", "a:b"),
        ("http://me:p@w@host", "me", "p@w"),
        ("https://m%C3%BC:@host", "mü", ""),
    ];
    for (text, name, word) in cases {
        let Some(Authentication::Basic { user, password }) = Location::parse(text).expect(text).1 else {
            panic!("{text} has no user");
        };
        assert_eq!((user.as_str(), password.reveal()), (name, word), "{text}");
    }
    assert!(Location::parse("http://host").expect("a right URL").1.is_none());
}

#[test]
fn no_message_shows_a_password() {
    let texts = [
        "http://me:hunter2@host",
        "http://me:hunter2@",
        "http://me:hunter2@host:x",
        "http://me:hunter2/@host",
        "http://me:12/hunter2@host",
        "http://me:hunter2#@host",
        "http://hunter2@host",
        "http://me:hunter2%ff@host",
        "http://me%3a:hunter2@host",
        "grpc://me:hunter2@host:1",
        "s3://me:hunter2@bucket",
        "me:hunter2@http://host",
        "http:me:hunter2@host",
    ];
    for text in texts {
        let shown = match Location::parse(text) {
            Ok((location, authentication)) => format!("{location} {location:?} {authentication:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
}

#[test]
fn cleartext_is_what_leaves_this_machine_without_tls() {
    let cases = [
        ("grpc://host:1", true),
        ("grpcs://host:1", false),
        ("grpc://127.3.2.1:1", false),
        ("grpc://[::1]:1", false),
        ("grpc://[::ffff:127.0.0.1]:1", false),
        ("grpc://[::2]:1", true),
        ("http://LocalHost/", false),
        ("http://localhost.example", true),
        ("http://10.0.0.1", true),
        ("https://host", false),
        ("unix:/run/sock", false),
        ("s3://bucket", false),
        ("file:///dir", false),
    ];
    for (text, is_cleartext) in cases {
        let (location, _) = Location::parse(text).expect(text);
        assert_eq!(location.is_cleartext_to_another_machine(), is_cleartext, "{text}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_what_is_printed_parses_again(
        scheme in prop::sample::select(vec!["grpc://", "grpcs://", "unix:", "http://", "https://", "s3://", "file://", ""]),
        rest in "([a-z0-9:@/.%\\[\\]#?-]|\\PC){0,40}",
    ) {
        let text = format!("{scheme}{rest}");
        if let Ok((location, _)) = Location::parse(&text) {
            let shown = location.to_string();
            let again = Location::parse(&shown);
            // A path that is not UTF-8 is printed with replacement characters.
            if !shown.contains('\u{fffd}') && shown.trim() == shown {
                prop_assert_eq!(again.map(|(location, _)| location), Ok(location));
            }
        }
    }
}

#[test]
fn requests_name_the_host_without_its_usual_port() {
    for (url, origin) in [
        ("grpc://[::1]:9092", "http://[::1]:9092"),
        ("grpcs://cache.example", "https://cache.example"),
        ("grpcs://cache.example:8443", "https://cache.example:8443"),
        ("unix:/run/cache.sock", "http://localhost"),
    ] {
        let (Location::Reapi(location), _) = Location::parse(url).unwrap() else { panic!("{url}") };
        assert_eq!(location.origin(), origin);
    }
}
