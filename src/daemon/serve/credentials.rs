//! The credentials file as it is on disk now, and who was recognised by it a moment ago.
//!
//! It owns reading the file again when it changes, and a small memory of checked passwords,
//! keyed by a keyed hash, so that bcrypt is paid once and not for every request. What the
//! lines mean is `tokens`' business.
//!
//! A file that no longer parses, perhaps because an editor is writing it, leaves the last
//! good one in force. One that is gone, cannot be read, or can be read by others, admits
//! nobody until that is mended: somebody may be revoking something.
//!
//! Invariant (NET-06): no secret is kept, only hashes under a key of this process.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kache_cas::{DigestFunction, Hash};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::auth::Access;
use super::auth::{Presented, Recognised, Secret};
use super::tokens::{LineError, Quick, SlowCheck, Table};

/// How often the file is looked at, at most. A revoked token works for no longer than this.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file that is read: `ENTRIES_MAX` lines with long comments fit.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How many checked passwords are remembered. When it is full all are forgotten, which
/// costs each of them one bcrypt.
const VERDICTS_MAX: usize = 4_096;

/// How many bcrypts may run at once: guessing passwords must leave cores for the others.
pub const BCRYPTS_AT_ONCE_MAX: usize = 2;

/// How long a request waits for its turn to be checked before it is sent away.
const BCRYPT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why a credentials file cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// It cannot be opened or read.
    #[error("failed to read the credentials file `{}`", path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "the credentials file `{}` has mode {mode:04o}, so others can read it: `chmod 600` it",
        path.display()
    )]
    Exposed {
        /// Where it is.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the credentials file `{}` belongs to user {owner}, who could change it: `chown` it", path.display())]
    Owner {
        /// Where it is.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// It is too large to be one.
    #[error("the credentials file `{}` is larger than `FILE_BYTES_MAX` (1 MiB)", path.display())]
    TooLarge {
        /// Where it is.
        path: PathBuf,
    },
    /// A line is malformed.
    #[error("the credentials file `{}` is malformed in {source}", path.display())]
    Line {
        /// Where it is.
        path: PathBuf,
        /// Which line, and why.
        source: LineError,
    },
}

/// All bcrypts are taken; the caller may try again.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("too many passwords are being checked (`BCRYPTS_AT_ONCE_MAX`); try again")]
pub struct Busy;

/// What identifies one state of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed: (i64, i64),
}

/// What is in force.
struct Current {
    stamp: Option<Stamp>,
    table: Arc<Table>,
    looked_at: Instant,
    verdicts: HashMap<Hash, Option<Access>>,
}

/// Checks what callers present against a file.
pub struct Credentials {
    path: PathBuf,
    /// Keys the memory of verdicts, so that nobody can aim at one.
    key: [u8; 32],
    current: Mutex<Current>,
    bcrypts: Semaphore,
}

impl Credentials {
    /// Reads the file for the first time; any fault is an error.
    pub fn open(path: &Path) -> Result<Self, CredentialsError> {
        let (stamp, table) = read(path)?;
        let current = Current {
            stamp: Some(stamp),
            table: Arc::new(table),
            looked_at: Instant::now(),
            verdicts: HashMap::new(),
        };
        Ok(Credentials {
            path: path.to_owned(),
            key: random_key(path)?,
            current: Mutex::new(current),
            bcrypts: Semaphore::new(BCRYPTS_AT_ONCE_MAX),
        })
    }

    /// Who presents this.
    pub async fn recognise(&self, presented: &Presented) -> Result<Recognised, Busy> {
        let access = match presented {
            Presented::Nothing => return Ok(Recognised::Nobody),
            Presented::Malformed(_) => None,
            Presented::Bearer(token) => self.table().check_bearer(token),
            Presented::Basic { user, password } => self.check_basic(user, password).await?,
        };
        Ok(access.map_or(Recognised::Wrong, Recognised::Somebody))
    }

    async fn check_basic(&self, user: &str, password: &Secret) -> Result<Option<Access>, Busy> {
        let table = self.table();
        let check = match table.check_basic(user, password) {
            Quick::Decided(access) => return Ok(access),
            Quick::Slow(check) => check,
        };
        let id = self.verdict_id(user, password);
        if let Some(access) = self.verdict(&table, &id) {
            return Ok(access);
        }
        let turn = tokio::time::timeout(BCRYPT_WAIT_MAX, self.bcrypts.acquire()).await.map_err(|_| Busy)?;
        // While this one waited, another with the same password may have been checked.
        if let Some(access) = self.verdict(&table, &id) {
            return Ok(access);
        }
        let access = run_slowly(check, password.clone()).await;
        drop(turn);
        self.remember(&table, id, access);
        Ok(access)
    }

    /// What was found for this password under this table, if that is still in force.
    fn verdict(&self, table: &Arc<Table>, id: &Hash) -> Option<Option<Access>> {
        let current = self.lock();
        if !Arc::ptr_eq(&current.table, table) {
            return None;
        }
        current.verdicts.get(id).copied()
    }

    fn remember(&self, table: &Arc<Table>, id: Hash, access: Option<Access>) {
        let mut current = self.lock();
        if !Arc::ptr_eq(&current.table, table) {
            return;
        }
        if current.verdicts.len() >= VERDICTS_MAX {
            current.verdicts.clear();
        }
        current.verdicts.insert(id, access);
    }

    /// A name for a pair of user and password that says nothing about either. The length
    /// keeps `ab`+`c` and `a`+`bc` apart.
    fn verdict_id(&self, user: &str, password: &Secret) -> Hash {
        let mut text = self.key.to_vec();
        text.extend_from_slice(&(user.len() as u64).to_le_bytes());
        text.extend_from_slice(user.as_bytes());
        text.extend_from_slice(password.expose());
        DigestFunction::Blake3.hash(&text)
    }

    /// What is in force now; looks at the file again when it is time.
    fn table(&self) -> Arc<Table> {
        let mut current = self.lock();
        if current.looked_at.elapsed() >= RECHECK_INTERVAL {
            self.refresh(&mut current);
        }
        Arc::clone(&current.table)
    }

    fn refresh(&self, current: &mut Current) {
        current.looked_at = Instant::now();
        let stamp = std::fs::metadata(&self.path).map(|metadata| Stamp::of(&metadata)).ok();
        if stamp.is_some() && stamp == current.stamp {
            return;
        }
        match read(&self.path) {
            Ok((stamp, table)) => {
                tracing::info!(path = %self.path.display(), entries = table.len(), "read the credentials again");
                current.replace(Some(stamp), table);
            }
            Err(error @ CredentialsError::Line { .. }) => {
                tracing::error!(%error, "the credentials of before stay in force");
                current.stamp = stamp;
            }
            Err(error) => {
                if !current.table.is_empty() {
                    tracing::error!(%error, "nobody is admitted until that is mended");
                }
                current.replace(None, Table::default());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Every change is one assignment; a panic elsewhere leaves nothing half done.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn replace(&mut self, stamp: Option<Stamp>, table: Table) {
        self.stamp = stamp;
        self.table = Arc::new(table);
        self.verdicts.clear();
    }
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            // The change time also moves when only the mode does.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Runs bcrypt where it delays nobody. A check that dies finds nobody.
async fn run_slowly(check: SlowCheck, password: Secret) -> Option<Access> {
    tokio::task::spawn_blocking(move || check.run(&password)).await.ok().flatten()
}

/// Reads and checks the file through one handle, so that what was checked is what is read.
fn read(path: &Path) -> Result<(Stamp, Table), CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check_private(path, &metadata)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(CredentialsError::TooLarge { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let table =
        Table::parse(&text).map_err(|source| CredentialsError::Line { path: path.to_owned(), source })?;
    Ok((Stamp::of(&metadata), table))
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
        /// As if `RECHECK_INTERVAL` had passed.
        fn look_again(&self) {
            self.refresh(&mut self.lock());
        }
    }

    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}:read-write\n", bcrypt::hash(password, 4).unwrap())
    }

    fn basic(user: &str, password: &str) -> Presented {
        Presented::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    const WRITER: Recognised = Recognised::Somebody(Access::ReadWrite);

    #[tokio::test]
    async fn passwords_are_checked_once_and_remembered() {
        let fixture = Fixture::new(&line("alice", "sesame"));
        let credentials = Credentials::open(&fixture.path()).unwrap();
        for _ in 0..3 {
            assert_eq!(credentials.recognise(&basic("alice", "sesame")).await, Ok(WRITER));
            assert_eq!(credentials.recognise(&basic("alice", "wrong")).await, Ok(Recognised::Wrong));
            assert_eq!(credentials.recognise(&basic("alices", "esame")).await, Ok(Recognised::Wrong));
        }
        assert_eq!(credentials.lock().verdicts.len(), 3);
        assert_eq!(credentials.recognise(&Presented::Nothing).await, Ok(Recognised::Nobody));
        assert_eq!(credentials.recognise(&Presented::Malformed("x")).await, Ok(Recognised::Wrong));
    }

    #[tokio::test]
    async fn a_changed_file_is_in_force_and_forgets_the_old_verdicts() {
        let fixture = Fixture::new(&line("alice", "sesame"));
        let credentials = Credentials::open(&fixture.path()).unwrap();
        assert_eq!(credentials.recognise(&basic("alice", "sesame")).await, Ok(WRITER));
        fixture.write(&line("alice", "changed"), 0o600);
        credentials.look_again();
        assert_eq!(credentials.recognise(&basic("alice", "sesame")).await, Ok(Recognised::Wrong));
        assert_eq!(credentials.recognise(&basic("alice", "changed")).await, Ok(WRITER));
    }

    #[tokio::test]
    async fn a_broken_file_keeps_the_last_good_one_and_a_missing_one_admits_nobody() {
        let good = line("alice", "sesame");
        let fixture = Fixture::new(&good);
        let credentials = Credentials::open(&fixture.path()).unwrap();
        fixture.write("alice", 0o600);
        credentials.look_again();
        assert_eq!(credentials.recognise(&basic("alice", "sesame")).await, Ok(WRITER));
        for (step, spoil) in [("gone", None), ("exposed", Some(0o640))] {
            match spoil {
                None => fs::remove_file(fixture.path()).unwrap(),
                Some(mode) => fixture.write(&good, mode),
            }
            credentials.look_again();
            assert_eq!(
                credentials.recognise(&basic("alice", "sesame")).await,
                Ok(Recognised::Wrong),
                "{step}"
            );
            fixture.write(&good, 0o600);
            credentials.look_again();
            assert_eq!(credentials.recognise(&basic("alice", "sesame")).await, Ok(WRITER), "{step}");
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_not_opened() {
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
