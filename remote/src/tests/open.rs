//! Every location has its kind of remote.

use crate::{Location, OptionsError, RemoteOptions, Secret, TlsOptions, open};

#[test]
fn every_location_is_opened_without_a_connection() {
    for (url, expected) in [
        ("grpc://cache.example:9092", "ReapiRemote"),
        ("unix:/run/cache.sock", "ReapiRemote"),
        ("http://cache.example/prefix", "ObjectRemote"),
        ("s3://bucket/prefix", "ObjectRemote"),
        ("file:///nonexistent", "DirRemote"),
    ] {
        // Without TLS no certificate is read, except for S3.
        let endpoint = Some("http://s3.example".to_owned());
        let mut options = RemoteOptions::default();
        options.s3.endpoint = endpoint;
        let remote = open(&Location::parse(url).unwrap().0, &options).unwrap();
        assert!(format!("{remote:?}").starts_with(expected), "{remote:?}");
    }
}

#[test]
fn options_that_cannot_be_used_are_errors() {
    let headers = vec![("a b".to_owned(), Secret::new("hunter2"))];
    let with_header = RemoteOptions { headers, ..RemoteOptions::default() };
    for url in ["grpc://cache.example:9092", "http://cache.example"] {
        let error = open(&Location::parse(url).unwrap().0, &with_header).unwrap_err();
        assert!(matches!(error, OptionsError::Header { .. }), "{error}");
    }
    let tls = TlsOptions { ca: Some("/nonexistent/ca.pem".into()), identity: None };
    let with_ca = RemoteOptions { tls, ..RemoteOptions::default() };
    for url in ["grpcs://cache.example", "https://cache.example", "s3://bucket"] {
        let error = open(&Location::parse(url).unwrap().0, &with_ca).unwrap_err();
        assert!(matches!(error, OptionsError::Read { .. }), "{error}");
    }
}
