//! Parses the credentials file: names, hashed passwords, hashed tokens, and the access of each.
//!
//! ```text
//! # alice may upload; her line is the output of `htpasswd -nB alice` with the access added.
//! alice:$2y$10$…:read-write
//! # ci reads with a token; the hash is of the token's bytes, in base64.
//! bearer ci:{SHA256}…=:read-only
//! ```
//!
//! Pure. Passwords are hashed with bcrypt, which is slow on purpose. `{SHA256}` is for secrets
//! that are long and random, and is the only form for tokens, so that an unknown token costs one
//! hash and not one bcrypt for each line. `credentials` owns the file, the threads and the
//! memory of earlier checks.
//!
//! Invariant (NET-06): a table holds hashes only, an error names a line and never repeats its
//! text, and comparing hashes takes the same time wherever they differ.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kache_cas::{DigestFunction, Hash};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::auth::{Access, Secret};

/// The highest bcrypt cost that is accepted: 2^14 rounds take about a second, and one wrong
/// password must not keep a processor busy for longer.
pub const BCRYPT_COST_MAX: u32 = 14;

/// The most lines with credentials. A presented token is compared with all tokens.
pub const ENTRIES_MAX: usize = 1_000;

/// Why a file cannot be parsed. No part of the line is repeated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {why}")]
pub struct LineError {
    /// The number of the line, from 1.
    pub line: usize,
    /// The problem, and what is expected.
    pub why: &'static str,
}

/// The hash of a password or token.
#[derive(Clone, PartialEq, Eq)]
enum HashedSecret {
    Bcrypt(String),
    Sha256(Hash),
}

/// The credentials of one line.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialEntry {
    name: String,
    is_bearer: bool,
    hashed: HashedSecret,
    access: Access,
}

impl fmt::Debug for CredentialEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CredentialEntry { name, is_bearer, hashed: _, access } = self;
        write!(f, "CredentialEntry({name}, bearer: {is_bearer}, {access:?})")
    }
}

/// Parses one line; `None` for a comment or an empty line. The error says what is wrong.
pub fn parse_line(line: &str) -> Result<Option<CredentialEntry>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let bearer = line.strip_prefix("bearer ");
    let is_bearer = bearer.is_some();
    let mut fields = bearer.unwrap_or(line).split(':');
    let name = fields.next().unwrap_or_default().trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("the name before the first `:` is empty or holds a space");
    }
    let hash = fields.next().ok_or("a `:` and a hash are missing after the name")?;
    let access = parse_access(fields.next())?;
    if fields.next().is_some() {
        return Err("there are more than three fields; expected `name:hash:read-only` or `…:read-write`");
    }
    let hashed = parse_hash(hash.trim())?;
    if is_bearer && matches!(hashed, HashedSecret::Bcrypt(_)) {
        return Err("a bearer token is hashed as `{SHA256}`, not by bcrypt");
    }
    Ok(Some(CredentialEntry { name: name.to_owned(), is_bearer, hashed, access }))
}

/// Parses the access. A missing field means `read-only`, so that write access is never granted by
/// accident.
fn parse_access(field: Option<&str>) -> Result<Access, &'static str> {
    match field.map(str::trim) {
        None | Some("read-only") => Ok(Access::ReadOnly),
        Some("read-write") => Ok(Access::ReadWrite),
        Some(_) => Err("the third field is neither `read-only` nor `read-write`"),
    }
}

fn parse_hash(text: &str) -> Result<HashedSecret, &'static str> {
    if let Some(encoded) = text.strip_prefix("{SHA256}") {
        let bytes = STANDARD.decode(encoded).map_err(|_| "what follows `{SHA256}` is not base64")?;
        let bytes = bytes.try_into().map_err(|_| "what follows `{SHA256}` is not 32 bytes in base64")?;
        return Ok(HashedSecret::Sha256(Hash(bytes)));
    }
    if is_bcrypt(text)? {
        return Ok(HashedSecret::Bcrypt(text.to_owned()));
    }
    Err("the hash is neither bcrypt (`htpasswd -nB name` makes one) nor `{SHA256}` and base64")
}

/// Whether the text is a bcrypt hash. It is an error if it is a malformed or too costly one.
fn is_bcrypt(text: &str) -> Result<bool, &'static str> {
    let versions = ["$2y$", "$2b$", "$2a$"];
    let Some(rest) = versions.iter().find_map(|version| text.strip_prefix(version)) else {
        return Ok(false);
    };
    let wrong = "the bcrypt hash is cut short or malformed";
    let (cost, digest) = rest.split_once('$').ok_or(wrong)?;
    let cost: u32 = cost.parse().map_err(|_| wrong)?;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    if digest.len() != 53 || !digest.bytes().all(is_digit) || cost < 4 {
        return Err(wrong);
    }
    if cost > BCRYPT_COST_MAX {
        return Err("the bcrypt cost is above `BCRYPT_COST_MAX` (14)");
    }
    Ok(true)
}

/// The credentials of a file.
#[derive(Debug, Default)]
pub struct CredentialTable {
    users: HashMap<String, CredentialEntry>,
    tokens: Vec<CredentialEntry>,
}

/// The result of checking a name and password without bcrypt.
#[derive(Debug)]
pub enum BasicCheck {
    /// The access, or `None` if the password is wrong.
    Decided(Option<Access>),
    /// The password is hashed with bcrypt, so the check is still to be run.
    NeedsBcrypt(BcryptCheck),
}

/// A bcrypt check that is still to be run, on a blocking thread.
pub struct BcryptCheck {
    hash: String,
    /// The access that a right password grants. `None` if the name is unknown: bcrypt runs all the
    /// same, so that its duration does not reveal which names exist.
    access: Option<Access>,
}

impl fmt::Debug for BcryptCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BcryptCheck({:?})", self.access)
    }
}

impl BcryptCheck {
    /// Runs the check, which takes tens of milliseconds to a second.
    pub fn run(&self, password: &Secret) -> Option<Access> {
        // bcrypt ignores all bytes after the 72nd. A longer password is refused.
        let is_right = bcrypt::non_truncating_verify(password.expose(), &self.hash).unwrap_or(false);
        self.access.filter(|_| is_right)
    }
}

impl CredentialTable {
    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut table = CredentialTable::default();
        for (index, line) in text.lines().enumerate() {
            let at_line = |why| LineError { line: index + 1, why };
            if let Some(entry) = parse_line(line).map_err(at_line)? {
                table.add(entry).map_err(at_line)?;
            }
        }
        Ok(table)
    }

    fn add(&mut self, entry: CredentialEntry) -> Result<(), &'static str> {
        if self.len() == ENTRIES_MAX {
            return Err("there are more credentials than `ENTRIES_MAX` (1,000)");
        }
        if entry.is_bearer {
            self.tokens.push(entry);
            return Ok(());
        }
        match self.users.insert(entry.name.clone(), entry) {
            Some(_) => Err("the name was used before"),
            None => Ok(()),
        }
    }

    /// The number of credentials.
    pub fn len(&self) -> usize {
        self.users.len() + self.tokens.len()
    }

    /// Whether there are no credentials.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The access that a token grants; `None` if it is unknown.
    pub fn check_bearer(&self, token: &Secret) -> Option<Access> {
        let hash = DigestFunction::Sha256.hash(token.expose());
        // The token is compared with all, so that the duration reveals nothing.
        let matching = self.tokens.iter().filter(|entry| entry.hashed.is_sha256(&hash));
        matching.fold(None, |best, entry| best.max(Some(entry.access)))
    }

    /// Checks a name and password as far as that is possible without bcrypt.
    pub fn check_basic(&self, user: &str, password: &Secret) -> BasicCheck {
        match self.users.get(user) {
            Some(CredentialEntry { hashed: HashedSecret::Bcrypt(hash), access, .. }) => {
                BasicCheck::NeedsBcrypt(BcryptCheck { hash: hash.clone(), access: Some(*access) })
            }
            Some(entry) => {
                let hash = DigestFunction::Sha256.hash(password.expose());
                BasicCheck::Decided(entry.hashed.is_sha256(&hash).then_some(entry.access))
            }
            None => self.check_unknown(),
        }
    }

    fn check_unknown(&self) -> BasicCheck {
        let any_bcrypt = self.users.values().find_map(|entry| match &entry.hashed {
            HashedSecret::Bcrypt(hash) => Some(hash.clone()),
            HashedSecret::Sha256(_) => None,
        });
        any_bcrypt.map_or(BasicCheck::Decided(None), |hash| {
            BasicCheck::NeedsBcrypt(BcryptCheck { hash, access: None })
        })
    }
}

impl HashedSecret {
    fn is_sha256(&self, hash: &Hash) -> bool {
        match self {
            HashedSecret::Sha256(own) => own.0.ct_eq(&hash.0).into(),
            HashedSecret::Bcrypt(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lowest cost of bcrypt, to keep the tests fast.
    const COST: u32 = 4;

    fn bcrypted(password: &str) -> String {
        bcrypt::hash(password, COST).unwrap()
    }

    fn sha256(secret: &str) -> String {
        let hash = DigestFunction::Sha256.hash(secret.as_bytes());
        format!("{{SHA256}}{}", STANDARD.encode(hash.0))
    }

    fn basic(table: &CredentialTable, user: &str, password: &str) -> Option<Access> {
        let password = Secret::new(password);
        match table.check_basic(user, &password) {
            BasicCheck::Decided(access) => access,
            BasicCheck::NeedsBcrypt(check) => check.run(&password),
        }
    }

    #[test]
    fn a_file_grants_the_access_of_its_lines() {
        let text = format!(
            "# people\n\nalice:{}:read-write\r\n  bob:{}  \nrobot:{}:read-write\nbearer ci:{}:read-only\n\
             bearer ci:{}:read-write\n",
            bcrypted("sesame"),
            bcrypted("hunter2").replace("$2b$", "$2y$"),
            sha256("long and random"),
            sha256("token-1"),
            sha256("token-2"),
        );
        let table = CredentialTable::parse(&text).unwrap();
        assert_eq!(table.len(), 5);
        for (user, password, expected) in [
            ("alice", "sesame", Some(Access::ReadWrite)),
            ("alice", "Sesame", None),
            ("alice", "", None),
            ("bob", "hunter2", Some(Access::ReadOnly)),
            ("bob", "sesame", None),
            ("robot", "long and random", Some(Access::ReadWrite)),
            ("robot", "long", None),
            ("ci", "token-1", None),
            ("mallory", "sesame", None),
            ("", "", None),
        ] {
            assert_eq!(basic(&table, user, password), expected, "{user}:{password}");
        }
        for (token, expected) in [
            ("token-1", Some(Access::ReadOnly)),
            ("token-2", Some(Access::ReadWrite)),
            ("token-3", None),
            ("long and random", None),
            ("", None),
        ] {
            assert_eq!(table.check_bearer(&Secret::new(token)), expected, "{token}");
        }
    }

    #[test]
    fn an_unknown_name_costs_as_much_as_a_known_one() {
        let table = CredentialTable::parse(&format!("alice:{}", bcrypted("sesame"))).unwrap();
        assert!(matches!(table.check_basic("mallory", &Secret::new("x")), BasicCheck::NeedsBcrypt(_)));
        let BasicCheck::NeedsBcrypt(check) = table.check_basic("mallory", &Secret::new("sesame")) else {
            unreachable!()
        };
        assert_eq!(check.run(&Secret::new("sesame")), None);
    }

    #[test]
    fn a_password_is_not_cut_at_72_bytes() {
        let long = "x".repeat(72);
        let table = CredentialTable::parse(&format!("alice:{}", bcrypted(&long))).unwrap();
        assert_eq!(basic(&table, "alice", &long), None);
        assert_eq!(basic(&table, "alice", &format!("{long}y")), None);
        let fits = "x".repeat(71);
        let table = CredentialTable::parse(&format!("alice:{}", bcrypted(&fits))).unwrap();
        assert_eq!(basic(&table, "alice", &fits), Some(Access::ReadOnly));
    }

    #[test]
    fn malformed_lines_are_named_and_never_repeated() {
        let good = bcrypted("x");
        for (line, why) in [
            ("alice".to_owned(), "hash are missing"),
            (format!(":{good}"), "name"),
            (format!("al ice:{good}"), "name"),
            ("alice:".to_owned(), "neither bcrypt"),
            ("alice:plain-password".to_owned(), "neither bcrypt"),
            ("alice:$apr1$salt$hash".to_owned(), "neither bcrypt"),
            ("alice:{SHA}deadbeef".to_owned(), "neither bcrypt"),
            ("alice:{SHA256}???".to_owned(), "not base64"),
            ("alice:{SHA256}AAAA".to_owned(), "not 32 bytes"),
            (format!("alice:{}", &good[..50]), "cut short"),
            (format!("alice:{}", good.replace("$04$", "$31$")), "BCRYPT_COST_MAX"),
            (format!("alice:{}", good.replace("$04$", "$xx$")), "malformed"),
            (format!("alice:{good}:admin"), "third field"),
            (format!("alice:{good}:"), "third field"),
            (format!("alice:{good}:read-only:x"), "more than three"),
            (format!("bearer ci:{good}"), "not by bcrypt"),
            (format!("alice:{good}\nalice:{good}"), "used before"),
        ] {
            let text = format!("# first\n{line}");
            let error = CredentialTable::parse(&text).unwrap_err();
            assert_eq!(error.line, text.lines().count(), "{line}: {error}");
            assert!(error.why.contains(why), "{line}: {error}");
        }
        let many = format!("bearer ci:{}\n", sha256("x")).repeat(ENTRIES_MAX + 1);
        assert!(CredentialTable::parse(&many).unwrap_err().why.contains("ENTRIES_MAX"));
    }

    #[test]
    fn net_06_debug_shows_no_hash() {
        let hash = bcrypted("sesame");
        let table = CredentialTable::parse(&format!("alice:{hash}\nbearer ci:{}", sha256("token"))).unwrap();
        let shown = format!("{table:?} {:?}", table.check_basic("alice", &Secret::new("sesame")));
        assert!(!shown.contains(&hash) && !shown.contains("SHA256") && !shown.contains("sesame"), "{shown}");
    }
}
