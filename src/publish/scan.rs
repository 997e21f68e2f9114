//! Whether an output holds the path of a root (KEY-07).
//!
//! Outputs are read in pieces; a path across two of them is found too. A path that is hidden
//! (compressed, transformed) is not found: compiles that are known to do so are bound to
//! their place by other means (KEY-18).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use memchr::memmem::Finder;

use crate::roles::{Role, Roots};

/// What is read at a time: fits into a second-level cache.
const PIECE_BYTES: usize = 256 << 10;

/// Looks for several roots at once.
pub(super) struct Scanner<'a> {
    finders: Vec<(Role, Finder<'a>)>,
    found: Vec<Role>,
    longest: usize,
    buffer: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(roots: &'a Roots) -> Self {
        let dirs = roots.spellings().map(|(role, dir)| (role, dir.as_os_str().as_bytes()));
        let finders: Vec<_> = dirs.map(|(role, dir)| (role, Finder::new(dir))).collect();
        let longest = finders.iter().map(|(_, finder)| finder.needle().len()).max().unwrap_or(0);
        Scanner { finders, found: Vec::new(), longest, buffer: Vec::new() }
    }

    /// Reads one file.
    pub(super) fn scan(&mut self, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        let overlap = self.longest.saturating_sub(1);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(overlap + PIECE_BYTES, 0);
        let mut kept = 0;
        while !self.finders.is_empty() {
            let count = match file.read(&mut buffer[kept..]) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let filled = kept + count;
            self.look(&buffer[..filled]);
            let from = filled.saturating_sub(overlap);
            buffer.copy_within(from..filled, 0);
            kept = filled - from;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Looks at some bytes. What was found once is not looked for again.
    pub(super) fn look(&mut self, bytes: &[u8]) {
        let found = &mut self.found;
        self.finders.retain(|(role, finder)| match finder.find(bytes) {
            Some(_) => {
                found.push(*role);
                false
            }
            None => true,
        });
    }

    /// The roots that were found.
    pub(super) fn found(mut self) -> Vec<Role> {
        self.found.sort_unstable();
        self.found.dedup();
        self.found
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;
    use crate::roles::Root;

    #[test]
    fn key_07_a_root_is_found_wherever_it_lies_in_an_output() {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        let roots = Roots::new([root(Role::Workspace, "/home/a/ws"), root(Role::Cargo, "/home/a/.cargo")]);
        let scan = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let mut scanner = Scanner::new(&roots);
            scanner.scan(file.path()).unwrap();
            scanner.found()
        };
        assert!(scan(b"").is_empty());
        assert!(scan(&vec![b'/'; 3 * PIECE_BYTES]).is_empty());
        for start in [0, 1, PIECE_BYTES - 5, PIECE_BYTES, PIECE_BYTES + 3, 2 * PIECE_BYTES + 7] {
            let mut bytes = vec![b'x'; start];
            bytes.extend_from_slice(b"/home/a/ws");
            assert_eq!(scan(&bytes), [Role::Workspace], "{start}");
            bytes.extend(vec![b'y'; PIECE_BYTES - 5]);
            bytes.extend_from_slice(b"/home/a/.cargo/");
            assert_eq!(scan(&bytes), [Role::Workspace, Role::Cargo], "{start}");
        }
    }
}
