//! The keys of a remote's table in a file. The reference page is generated from this table.

use crate::config::key::nearest_by_name;

/// A key of `[[remote]]` and `[cache.remote]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct RemoteKey {
    pub(in crate::config) name: &'static str,
    /// Describes the valid values, for the hint of an error.
    pub(in crate::config) expected: &'static str,
    /// A line of TOML with a valid value.
    pub(in crate::config) example: &'static str,
    /// The meaning, as the reference page prints it.
    pub(in crate::config) doc: &'static str,
}

macro_rules! keys {
    ($($name:literal, $expected:expr, $value:literal, $doc:literal;)+) => {
        /// All keys of a remote's table, in the order of the reference page.
        pub(in crate::config) const KEYS: &[RemoteKey] = &[$(RemoteKey {
            name: $name,
            expected: $expected,
            example: concat!($name, " = ", $value),
            doc: $doc,
        }),+];
    };
}

const TEXT: &str = "a text in quotes";
const PATH: &str = "a path in quotes";
const NUMBER: &str = "a number, such as 100";

keys! {
    "url", "a URL in quotes, such as \"grpcs://cache.example.com\"", "'grpcs://cache.example.com'",
    "Where the remote is: `grpc://host:port`, `grpcs://host`, `unix:/path`, `http://host/prefix`, `https://user:password@host/prefix`, `s3://bucket/prefix` or `file:///directory`.";
    "access", "one of \"read\", \"write\", \"read-write\"", "'read'",
    "`read`, `write` or `read-write`, which is the default.";
    "writes_if", "the name of a variable in quotes, such as \"CI\"", "'CI'",
    "The name of a variable. Results are uploaded only by calls in whose environment it is set.";
    "upload_inputs", "true or false", "true",
    "`true`: sources, directories and the toolchain are uploaded beside results, so that others can print uploaded actions, and execute them.";
    "instance", TEXT, "'main'",
    "The instance name that a server of the Remote Execution API expects.";
    "headers", "a table of texts, such as { x-api-key = \"...\" }", "{ x-api-key = 'key' }",
    "Headers that every request carries. `kache config list` shows only their names.";
    "token", TEXT, "'token'",
    "The token for `Authorization: Bearer`. It is never shown.";
    "token_file", PATH, "'~/.config/kache/token'",
    "A file with this token. Other users must not be able to read it.";
    "token_command", "a list of texts, such as [\"gcloud\", \"auth\", \"print-access-token\"]", "['print-token', '--quiet']",
    "A program with its arguments that prints this token. It is run when a request needs a token, and again after five minutes.";
    "ca", PATH, "'/etc/ssl/our-ca.pem'",
    "A PEM file with the authorities that are trusted instead of the system's.";
    "cert", PATH, "'client.pem'",
    "A PEM file with the certificate by which the remote knows this machine.";
    "key", PATH, "'client.key'",
    "The PEM file with the certificate's private key. Other users must not be able to read it.";
    "allow_cleartext_credentials", "true or false", "true",
    "`true`: tokens, passwords and headers may go to another machine without TLS.";
    "connect_ms", NUMBER, "1000",
    "The time for a connection, in milliseconds; by default 1000.";
    "lookup_ms", NUMBER, "250",
    "How long a compile waits for the answer to one lookup, in milliseconds; by default 250.";
    "stall_ms", NUMBER, "2000",
    "The most time that one build loses to a remote that is slow or stands still, in milliseconds; by default 2000.";
    "concurrency", NUMBER, "16",
    "How many requests are under way at once, at most; by default 16, and `cache.s3_concurrency` for S3.";
    "compression_level", "a number from 0 to 22", "3",
    "The level of zstd for uploads, or 0 for none; by default `cache.compression_level`.";
    "max_size", "a size in quotes, such as \"50GB\"", "'50GB'",
    "How large a folder may become, for `file:///`. What was used longest ago is removed then. By default there is no limit.";
    "type", "\"s3\"", "'s3'",
    "`s3`, where `bucket` stands in place of `url`.";
    "bucket", TEXT, "'our-cache'",
    "The bucket of S3, in place of `url`.";
    "prefix", TEXT, "'artifacts'",
    "The beginning of keys in the bucket; by default `artifacts`.";
    "endpoint", "a URL in quotes, such as \"https://s3.example.com\"", "'https://s3.example.com'",
    "The URL of the S3 service; by default that of AWS.";
    "region", TEXT, "'eu-central-1'",
    "The region of S3; by default `us-east-1`.";
    "profile", TEXT, "'work'",
    "The profile in AWS's own files that has the credentials for S3.";
}

/// Returns the key that the user probably meant; `None` if no name is similar enough.
pub(in crate::config) fn nearest(name: &str) -> Option<&'static str> {
    nearest_by_name(name, KEYS, |key| key.name).map(|key| key.name)
}
