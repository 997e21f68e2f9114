//! Where a remote is: what a URL of the settings means.
//!
//! This module parses and prints. It opens nothing and asks nobody, so a host that does not exist is a right
//! location. Invariant: neither an error nor the `Display` of a location ever shows a user or a password.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use thiserror::Error;

use crate::options::{Authentication, Secret};

/// The place of a remote, parsed from its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A server of the Remote Execution API.
    Reapi(ReapiLocation),
    /// A server of Bazel's HTTP cache protocol.
    Http(HttpLocation),
    /// The remote is a bucket of S3.
    S3(S3Location),
    /// A directory that several machines see. Its path is absolute.
    Dir(PathBuf),
}

/// Where a server of the Remote Execution API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReapiLocation {
    /// It listens on a port of a host.
    Tcp {
        /// The host's name or address; an IPv6 address has no brackets here.
        host: String,
        /// The port. Without one in the URL it is 80, and 443 with TLS, as in other clients of gRPC.
        port: u16,
        /// Whether the connection uses TLS.
        is_tls: bool,
    },
    /// It listens on a Unix socket with this absolute path.
    Unix(PathBuf),
}

/// Where a server of Bazel's HTTP cache protocol listens, and below which path its cache lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLocation {
    /// The host's name or address; an IPv6 address has no brackets here.
    pub host: String,
    /// The port. Without one in the URL it is 80, and 443 with TLS.
    pub port: u16,
    /// Whether the connection uses TLS.
    pub is_tls: bool,
    /// The path before `/ac/` and `/cas/`, without a slash at either end; empty for none.
    pub prefix: String,
}

/// A bucket, and below which prefix the cache lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    /// The name of the bucket, without a prefix.
    pub bucket: String,
    /// The keys' beginning before `/ac/` and `/cas/`, without a slash at either end; empty for none.
    pub prefix: String,
}

/// Why a text is no location. The message shows an example of a right one and no part of the text that
/// could be a password.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{problem}; a right URL looks like `{example}`")]
pub struct LocationError {
    problem: Problem,
    example: &'static str,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
enum Problem {
    #[error(
        "the URL of a remote begins with `grpc://`, `grpcs://`, `unix:`, `http://`, `https://`, `s3://` or `file://`"
    )]
    NoScheme,
    #[error("there is no kind of remote with the scheme `{0}`")]
    UnknownScheme(String),
    #[error("the URL names no host")]
    NoHost,
    #[error("the host is neither a name in ASCII nor an address")]
    Host,
    #[error("an IPv6 address stands in brackets")]
    Brackets,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error(
        "a server of the Remote Execution API has no path in its URL: an instance has a setting of its own"
    )]
    PathAfterHost,
    #[error("only `http://` and `https://` URLs take a user and a password; other credentials have settings")]
    Credentials,
    #[error(
        "a user and a password are separated by a colon, and `%` begins a percent-encoded UTF-8 byte in them"
    )]
    UserAndPassword,
    #[error("a path has neither `@`, `?` nor `#`, and no spaces; in a password `/` is written as `%2F`")]
    Prefix,
    #[error("a prefix has no empty parts, and no parts `.` or `..`")]
    Dots,
    #[error("the bucket's name has 3 to 255 letters, digits, dots, dashes and underscores")]
    Bucket,
    #[error("the path is not absolute")]
    RelativePath,
}

const GRPC_EXAMPLE: &str = "grpc://cache.example.com:9092";
const UNIX_EXAMPLE: &str = "unix:/run/cache.sock";
const HTTP_EXAMPLE: &str = "https://user:password@cache.example.com/prefix";
const S3_EXAMPLE: &str = "s3://bucket/prefix";
const FILE_EXAMPLE: &str = "file:///mnt/cache";

impl Location {
    /// Parses a URL, and returns also the user and password that an HTTP URL may hold.
    pub fn parse(text: &str) -> Result<(Location, Option<Authentication>), LocationError> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            let location = unix(path).map_err(with_example(UNIX_EXAMPLE))?;
            return Ok((location, None));
        }
        let (scheme, rest) =
            text.split_once("://").ok_or(Problem::NoScheme).map_err(with_example(GRPC_EXAMPLE))?;
        match scheme.to_ascii_lowercase().as_str() {
            "grpc" => Ok((grpc(rest, false).map_err(with_example(GRPC_EXAMPLE))?, None)),
            "grpcs" => Ok((grpc(rest, true).map_err(with_example(GRPC_EXAMPLE))?, None)),
            "http" => http(rest, false).map_err(with_example(HTTP_EXAMPLE)),
            "https" => http(rest, true).map_err(with_example(HTTP_EXAMPLE)),
            "s3" => Ok((s3(rest).map_err(with_example(S3_EXAMPLE))?, None)),
            "file" => Ok((dir(rest).map_err(with_example(FILE_EXAMPLE))?, None)),
            other => Err(with_example(GRPC_EXAMPLE)(scheme_problem(other))),
        }
    }

    /// Whether requests go to another machine without encryption. Credentials must not go there unless the
    /// settings say so. It is `false` for S3, whose requests carry signatures and never the secret key.
    pub fn is_cleartext_to_another_machine(&self) -> bool {
        match self {
            Location::Reapi(ReapiLocation::Tcp { host, is_tls, .. })
            | Location::Http(HttpLocation { host, is_tls, .. }) => !is_tls && !is_loopback(host),
            Location::Reapi(ReapiLocation::Unix(_)) | Location::S3(_) | Location::Dir(_) => false,
        }
    }
}

impl S3Location {
    /// Creates a location of settings that name the bucket and the prefix apart. Slashes at the ends of the
    /// prefix are dropped. Unlike in a URL, it may have spaces and other characters.
    pub fn new(bucket: &str, prefix: &str) -> Result<S3Location, LocationError> {
        let bucket = checked_bucket(bucket).map_err(with_example(S3_EXAMPLE))?;
        let prefix = prefix.trim_matches('/').to_owned();
        if has_dots(&prefix) {
            Err(with_example(S3_EXAMPLE)(Problem::Dots))
        } else {
            Ok(S3Location { bucket, prefix })
        }
    }
}

/// Whether a host is this machine, by its name or address alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn with_example(example: &'static str) -> impl Fn(Problem) -> LocationError {
    move |problem| LocationError { problem, example }
}

/// Returns the problem of a URL with an unknown scheme. The error repeats the text before `://` only if it looks
/// like a scheme, because other text may be a part of a password.
fn scheme_problem(scheme: &str) -> Problem {
    let is_scheme =
        !scheme.is_empty() && scheme.len() <= 20 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_scheme { Problem::UnknownScheme(scheme.to_owned()) } else { Problem::NoScheme }
}

/// `unix:/path` and `unix:///path` mean the same.
fn unix(path: &str) -> Result<Location, Problem> {
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = absolute(Path::new(path))?;
    Ok(Location::Reapi(ReapiLocation::Unix(path)))
}

fn grpc(rest: &str, is_tls: bool) -> Result<Location, Problem> {
    let (authority, path) = split_path(rest);
    if authority.contains('@') {
        return Err(Problem::Credentials);
    }
    if !path.is_empty() {
        return Err(Problem::PathAfterHost);
    }
    let (host, port) = host_and_port(authority, is_tls)?;
    Ok(Location::Reapi(ReapiLocation::Tcp { host, port, is_tls }))
}

fn http(rest: &str, is_tls: bool) -> Result<(Location, Option<Authentication>), Problem> {
    let (authority, path) = split_path(rest);
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, authority),
    };
    let (host, port) = host_and_port(address, is_tls)?;
    let prefix = checked_prefix(path)?;
    let authentication = credentials.map(basic).transpose()?;
    Ok((Location::Http(HttpLocation { host, port, is_tls, prefix }), authentication))
}

fn s3(rest: &str) -> Result<Location, Problem> {
    let (bucket, path) = split_path(rest);
    if bucket.contains('@') {
        return Err(Problem::Credentials);
    }
    Ok(Location::S3(S3Location { bucket: checked_bucket(bucket)?, prefix: checked_prefix(path)? }))
}

fn checked_bucket(bucket: &str) -> Result<String, Problem> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(is_right) || bucket.starts_with(['.', '-']) {
        return Err(Problem::Bucket);
    }
    Ok(bucket.to_owned())
}

fn dir(rest: &str) -> Result<Location, Problem> {
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    let bytes: Vec<u8> = percent_decode_str(rest).collect();
    absolute(Path::new(OsStr::from_bytes(&bytes))).map(Location::Dir)
}

/// Makes sure that a path is absolute and drops slashes at its end.
fn absolute(path: &Path) -> Result<PathBuf, Problem> {
    let is_usable = path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0);
    if is_usable { Ok(path.components().collect()) } else { Err(Problem::RelativePath) }
}

/// Splits what follows `://` into the part before the first slash, and the path without slashes at its ends.
fn split_path(rest: &str) -> (&str, &str) {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    (authority, path.trim_matches('/'))
}

fn host_and_port(authority: &str, is_tls: bool) -> Result<(String, u16), Problem> {
    let port_default = if is_tls { 443 } else { 80 };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(Problem::Brackets)?;
            address.parse::<Ipv6Addr>().map_err(|_| Problem::Host)?;
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(Problem::Port)?) })
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(Problem::Brackets),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(Problem::NoHost);
    }
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.len() > 253 || !host.bytes().all(is_right) {
        return Err(Problem::Host);
    }
    Ok((host.to_owned(), port.map_or(Ok(port_default), parse_port)?))
}

fn parse_port(text: &str) -> Result<u16, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0).ok_or(Problem::Port)
}

/// The prefix goes into requests as it is, so it must be right there. An `@` in it means that a slash of a
/// password ended the host too early.
fn checked_prefix(path: &str) -> Result<String, Problem> {
    let is_right = |byte: u8| byte.is_ascii_graphic() && !b"@?#\"<>\\^`{|}".contains(&byte);
    if !path.bytes().all(is_right) {
        return Err(Problem::Prefix);
    }
    if has_dots(path) { Err(Problem::Dots) } else { Ok(path.to_owned()) }
}

/// Whether a prefix has parts that a server or a client would remove.
fn has_dots(prefix: &str) -> bool {
    !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | ".."))
}

fn basic(credentials: &str) -> Result<Authentication, Problem> {
    let (user, password) = credentials.split_once(':').ok_or(Problem::UserAndPassword)?;
    let user = decoded(user)?;
    // RFC 7617: a colon would end the name.
    if user.is_empty() || user.contains(':') {
        return Err(Problem::UserAndPassword);
    }
    Ok(Authentication::Basic { user, password: Secret::new(decoded(password)?) })
}

fn decoded(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Problem::UserAndPassword)?;
    let is_right = !decoded.chars().any(char::is_control);
    if is_right { Ok(decoded.into_owned()) } else { Err(Problem::UserAndPassword) }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Reapi(location) => location.fmt(f),
            Location::Http(location) => location.fmt(f),
            Location::S3(location) => location.fmt(f),
            Location::Dir(path) => write!(f, "file://{}", escaped(path)),
        }
    }
}

impl ReapiLocation {
    /// Returns the URI from which requests of HTTP/2 take the name of the host. It has a port only if that is
    /// not the usual one, because some proxies choose a server by the whole text.
    pub(crate) fn origin(&self) -> String {
        match self {
            ReapiLocation::Tcp { host, port: 443, is_tls: true } => format!("https://{}", bracketed(host)),
            ReapiLocation::Tcp { host, port, is_tls } => {
                let scheme = if *is_tls { "https" } else { "http" };
                format!("{scheme}://{}:{port}", bracketed(host))
            }
            ReapiLocation::Unix(_) => "http://localhost".to_owned(),
        }
    }
}

impl fmt::Display for ReapiLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReapiLocation::Tcp { host, port, is_tls } => {
                let scheme = if *is_tls { "grpcs" } else { "grpc" };
                write!(f, "{scheme}://{}:{port}", bracketed(host))
            }
            ReapiLocation::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for HttpLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// A host as it stands in a URL: an IPv6 address in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// A path with `%` escaped, so that the URL parses to the same path again.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('%', "%25")
}
