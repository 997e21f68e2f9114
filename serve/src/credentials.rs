//! Checks credentials against a file that is read again when it changes.
//!
//! It remembers the results of earlier password checks under a keyed hash, so that bcrypt runs
//! once for a password and not for each request. `tokens` reads the lines of the file.
//!
//! If a changed file does not parse, perhaps because an editor is writing it, the last good
//! content stays in force. If it is missing, unreadable, or readable by other users, no
//! credentials are accepted until that is repaired, because an administrator may be revoking
//! some.
//!
//! Invariant (NET-06): no secret is kept, only hashes under a key of this process.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_cas::{DigestFunction, Hash};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;

use super::auth::Access;
use super::auth::{AuthorizationHeader, CredentialCheck, Secret};
use super::file_version::FileVersion;
use super::tokens::{BasicCheck, BcryptCheck, CredentialTable, LineError};

/// The shortest time between two looks at the file. A revoked token works for at most this long.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file that is read: `ENTRIES_MAX` lines with long comments fit.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How many checked passwords are remembered. When there are more, all are forgotten, and each
/// costs one bcrypt again.
const REMEMBERED_MAX: usize = 4_096;

/// How many bcrypts may run at once, so that guessing passwords leaves processors for others.
pub const BCRYPTS_AT_ONCE_MAX: usize = 2;

/// How long a request waits for its bcrypt before it is refused.
const BCRYPT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a credentials file cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file cannot be opened or read.
    #[error("failed to read the credentials file `{}`", path.display())]
    Read {
        /// The path of the credentials file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// Other users can read the file.
    #[error(
        "the credentials file `{}` has mode {mode:04o}, so others can read it: `chmod 600` it",
        path.display()
    )]
    Exposed {
        /// The path of the credentials file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The file belongs to another user, who is not root.
    #[error("the credentials file `{}` belongs to user {owner}, who could change it: `chown` it", path.display())]
    Owner {
        /// The path of the credentials file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// The file is larger than any valid one.
    #[error("the credentials file `{}` is larger than `FILE_BYTES_MAX` (1 MiB)", path.display())]
    TooLarge {
        /// The path of the credentials file.
        path: PathBuf,
    },
    /// A line is malformed.
    #[error("the credentials file `{}` is malformed in {source}", path.display())]
    Line {
        /// The path of the credentials file.
        path: PathBuf,
        /// The line and what is wrong with it.
        source: LineError,
    },
}

/// `BCRYPTS_AT_ONCE_MAX` passwords are being checked; the caller may try again.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("too many passwords are being checked (`BCRYPTS_AT_ONCE_MAX`); try again")]
pub struct TooManyChecks;

/// The content of the file that is in force, and the passwords that were checked against it.
struct LoadedCredentials {
    version: Option<FileVersion>,
    table: Arc<CredentialTable>,
    looked_at: Instant,
    remembered: HashMap<Hash, Option<Access>>,
}

/// Checks the credentials of callers against a file.
pub struct Credentials {
    path: PathBuf,
    /// Keys the hashes of remembered passwords, so that a caller cannot choose colliding ones.
    key: [u8; 32],
    current: Mutex<LoadedCredentials>,
    bcrypts: Semaphore,
}

impl Credentials {
    /// Reads the file. Unlike later, any fault is an error.
    pub fn open(path: &Path) -> Result<Self, CredentialsError> {
        let (version, table) = read(path)?;
        let current = LoadedCredentials {
            version: Some(version),
            table: Arc::new(table),
            looked_at: Instant::now(),
            remembered: HashMap::new(),
        };
        Ok(Credentials {
            path: path.to_owned(),
            key: random_key(path)?,
            current: Mutex::new(current),
            bcrypts: Semaphore::new(BCRYPTS_AT_ONCE_MAX),
        })
    }

    /// Checks the header of a request. It may wait up to `BCRYPT_WAIT_MAX` for a turn, and then
    /// for a bcrypt on a blocking thread.
    pub async fn check(&self, presented: &AuthorizationHeader) -> Result<CredentialCheck, TooManyChecks> {
        let access = match presented {
            AuthorizationHeader::Absent => return Ok(CredentialCheck::NotPresented),
            AuthorizationHeader::Malformed(_) => None,
            AuthorizationHeader::Bearer(token) => self.table().check_bearer(token),
            AuthorizationHeader::Basic { user, password } => self.check_basic(user, password).await?,
        };
        Ok(access.map_or(CredentialCheck::Wrong, CredentialCheck::Granted))
    }

    async fn check_basic(&self, user: &str, password: &Secret) -> Result<Option<Access>, TooManyChecks> {
        let table = self.table();
        let check = match table.check_basic(user, password) {
            BasicCheck::Decided(access) => return Ok(access),
            BasicCheck::NeedsBcrypt(check) => check,
        };
        let id = self.password_id(user, password);
        if let Some(access) = self.recall(&table, &id) {
            return Ok(access);
        }
        let turn =
            tokio::time::timeout(BCRYPT_WAIT_MAX, self.bcrypts.acquire()).await.map_err(|_| TooManyChecks)?;
        // While this request waited, another one may have checked the same password.
        if let Some(access) = self.recall(&table, &id) {
            return Ok(access);
        }
        let access = run_blocking(check, password.clone()).await;
        drop(turn);
        self.remember(&table, id, access);
        Ok(access)
    }

    /// The result of an earlier check of this password, if `table` is still in force. The inner
    /// `None` means that the password is wrong.
    fn recall(&self, table: &Arc<CredentialTable>, id: &Hash) -> Option<Option<Access>> {
        let current = self.current.lock();
        if !Arc::ptr_eq(&current.table, table) {
            return None;
        }
        current.remembered.get(id).copied()
    }

    fn remember(&self, table: &Arc<CredentialTable>, id: Hash, access: Option<Access>) {
        let mut current = self.current.lock();
        if !Arc::ptr_eq(&current.table, table) {
            return;
        }
        if current.remembered.len() >= REMEMBERED_MAX {
            current.remembered.clear();
        }
        current.remembered.insert(id, access);
    }

    /// Identifies a pair of name and password without revealing either. The length keeps
    /// `ab`+`c` and `a`+`bc` apart.
    fn password_id(&self, user: &str, password: &Secret) -> Hash {
        let mut text = self.key.to_vec();
        text.extend_from_slice(&(user.len() as u64).to_le_bytes());
        text.extend_from_slice(user.as_bytes());
        text.extend_from_slice(password.expose());
        DigestFunction::Blake3.hash(&text)
    }

    /// The table that is in force. Looks at the file first if the last look is `RECHECK_INTERVAL`
    /// ago.
    fn table(&self) -> Arc<CredentialTable> {
        let mut current = self.current.lock();
        if current.looked_at.elapsed() >= RECHECK_INTERVAL {
            self.refresh(&mut current);
        }
        Arc::clone(&current.table)
    }

    fn refresh(&self, current: &mut LoadedCredentials) {
        current.looked_at = Instant::now();
        let version = std::fs::metadata(&self.path).map(|metadata| FileVersion::of(&metadata)).ok();
        if version.is_some() && version == current.version {
            return;
        }
        match read(&self.path) {
            Ok((version, table)) => {
                tracing::info!(path = %self.path.display(), entries = table.len(), "read the credentials again");
                current.replace(Some(version), table);
            }
            // A mistake while editing must not lock everyone out. The version is noted, so that the error is logged
            // once for each change of the file.
            Err(error @ CredentialsError::Line { .. }) => {
                tracing::error!(%error, "failed to read the changed credentials; the previous ones stay in force");
                current.version = version;
            }
            Err(error) => {
                // A file that was removed or that others can read grants nothing: its tokens may have been revoked
                // or stolen. `None` makes the next look read it again.
                if !current.table.is_empty() {
                    tracing::error!(%error, "failed to read the credentials; none are accepted until that is repaired");
                }
                current.replace(None, CredentialTable::default());
            }
        }
    }
}

impl LoadedCredentials {
    fn replace(&mut self, version: Option<FileVersion>, table: CredentialTable) {
        self.version = version;
        self.table = Arc::new(table);
        self.remembered.clear();
    }
}

/// Runs bcrypt on a blocking thread. A check that panics rejects the credentials.
async fn run_blocking(check: BcryptCheck, password: Secret) -> Option<Access> {
    tokio::task::spawn_blocking(move || check.run(&password)).await.ok().flatten()
}

/// Reads the file and checks its owner and mode, through one handle, so that both are of the
/// same file.
fn read(path: &Path) -> Result<(FileVersion, CredentialTable), CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check_private(path, &metadata)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(CredentialsError::TooLarge { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let table = CredentialTable::parse(&text)
        .map_err(|source| CredentialsError::Line { path: path.to_owned(), source })?;
    Ok((FileVersion::of(&metadata), table))
}

fn check_private(path: &Path, metadata: &std::fs::Metadata) -> Result<(), CredentialsError> {
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Exposed { path: path.to_owned(), mode });
    }
    let owner = metadata.uid();
    let own = nix::unistd::geteuid().as_raw();
    if owner != own && owner != 0 {
        return Err(CredentialsError::Owner { path: path.to_owned(), owner });
    }
    Ok(())
}

fn random_key(path: &Path) -> Result<[u8; 32], CredentialsError> {
    let mut key = [0; 32];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut key).map_err(|_| CredentialsError::Read {
        path: path.to_owned(),
        source: io::Error::other("the system gave no random numbers"),
    })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new(text: &str) -> Self {
            let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
            fixture.write(text, 0o600);
            fixture
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("credentials")
        }

        /// Replaces the file as an editor does, by renaming.
        fn write(&self, text: &str, mode: u32) {
            let draft = self.dir.path().join("draft");
            fs::write(&draft, text).unwrap();
            fs::set_permissions(&draft, fs::Permissions::from_mode(mode)).unwrap();
            fs::rename(&draft, self.path()).unwrap();
        }
    }

    impl Credentials {
        /// Looks at the file as if `RECHECK_INTERVAL` had passed.
        fn look_again(&self) {
            self.refresh(&mut self.current.lock());
        }
    }

    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}:read-write\n", bcrypt::hash(password, 4).unwrap())
    }

    fn basic(user: &str, password: &str) -> AuthorizationHeader {
        AuthorizationHeader::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    const WRITER: CredentialCheck = CredentialCheck::Granted(Access::ReadWrite);

    #[tokio::test]
    async fn passwords_are_checked_once_and_remembered() {
        let fixture = Fixture::new(&line("alice", "sesame"));
        let credentials = Credentials::open(&fixture.path()).unwrap();
        for _ in 0..3 {
            assert_eq!(credentials.check(&basic("alice", "sesame")).await, Ok(WRITER));
            assert_eq!(credentials.check(&basic("alice", "wrong")).await, Ok(CredentialCheck::Wrong));
            assert_eq!(credentials.check(&basic("alices", "esame")).await, Ok(CredentialCheck::Wrong));
        }
        assert_eq!(credentials.current.lock().remembered.len(), 3);
        assert_eq!(credentials.check(&AuthorizationHeader::Absent).await, Ok(CredentialCheck::NotPresented));
        assert_eq!(credentials.check(&AuthorizationHeader::Malformed("x")).await, Ok(CredentialCheck::Wrong));
    }

    #[tokio::test]
    async fn a_changed_file_is_in_force_and_earlier_checks_are_forgotten() {
        let fixture = Fixture::new(&line("alice", "sesame"));
        let credentials = Credentials::open(&fixture.path()).unwrap();
        assert_eq!(credentials.check(&basic("alice", "sesame")).await, Ok(WRITER));
        fixture.write(&line("alice", "changed"), 0o600);
        credentials.look_again();
        assert_eq!(credentials.check(&basic("alice", "sesame")).await, Ok(CredentialCheck::Wrong));
        assert_eq!(credentials.check(&basic("alice", "changed")).await, Ok(WRITER));
    }

    #[tokio::test]
    async fn a_malformed_file_leaves_the_last_good_one_and_a_missing_one_admits_nobody() {
        let good = line("alice", "sesame");
        let fixture = Fixture::new(&good);
        let credentials = Credentials::open(&fixture.path()).unwrap();
        fixture.write("alice", 0o600);
        credentials.look_again();
        assert_eq!(credentials.check(&basic("alice", "sesame")).await, Ok(WRITER));
        for (step, spoil) in [("gone", None), ("exposed", Some(0o640))] {
            match spoil {
                None => fs::remove_file(fixture.path()).unwrap(),
                Some(mode) => fixture.write(&good, mode),
            }
            credentials.look_again();
            assert_eq!(
                credentials.check(&basic("alice", "sesame")).await,
                Ok(CredentialCheck::Wrong),
                "{step}"
            );
            fixture.write(&good, 0o600);
            credentials.look_again();
            assert_eq!(credentials.check(&basic("alice", "sesame")).await, Ok(WRITER), "{step}");
        }
    }

    #[test]
    fn a_file_that_others_can_change_or_read_is_not_opened() {
        for mode in [0o640, 0o604, 0o620, 0o644, 0o666] {
            let fixture = Fixture::new("");
            fixture.write("", mode);
            let error = Credentials::open(&fixture.path()).err().unwrap();
            assert!(matches!(error, CredentialsError::Exposed { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        let fixture = Fixture::new("alice:sesame\n");
        let error = Credentials::open(&fixture.path()).err().unwrap().to_string();
        assert!(error.contains("line 1") && !error.contains("sesame"), "{error}");
        assert!(matches!(
            Credentials::open(Path::new("/nonexistent/credentials")).err(),
            Some(CredentialsError::Read { .. })
        ));
    }
}
