//! The columns with paths and texts that trails and path sets have in common.
//!
//! A path is a start (a role and a number of levels above it), the number of bytes that it shares with the
//! path before it, and a text: the rest of its bytes.

use std::slice::Iter;

use bytes::Bytes;
use kache_proto::trail as wire;

use crate::roles::{Role, RolePath};

/// The value of `Start.up` for a path that is `RolePath::is_everywhere_above`.
const EVERY_LEVEL: u8 = u8::MAX;

/// The columns of a message, in the form in which they are stored.
pub(super) struct Columns {
    pub(super) starts: Vec<wire::Start>,
    pub(super) path_starts: Vec<u32>,
    pub(super) shared_bytes: Vec<u32>,
    pub(super) texts: Bytes,
    pub(super) text_bytes: Vec<u32>,
}

/// Appends paths and texts to the columns.
#[derive(Default)]
pub(super) struct ColumnWriter<'a> {
    starts: Vec<(Role, u8)>,
    path_starts: Vec<u32>,
    shared_bytes: Vec<u32>,
    texts: Vec<u8>,
    text_bytes: Vec<u32>,
    /// The rest of the path before, of which the next one may share bytes.
    before: &'a [u8],
}

impl<'a> ColumnWriter<'a> {
    pub(super) fn path(&mut self, path: &'a RolePath) {
        self.start(path.role(), if path.is_everywhere_above() { EVERY_LEVEL } else { path.up() });
        let shared = self.before.iter().zip(path.rest()).take_while(|(a, b)| a == b).count();
        self.shared_bytes.push(number(shared));
        self.text(&path.rest()[shared..]);
        self.before = path.rest();
    }

    pub(super) fn start(&mut self, role: Role, up: u8) {
        let index = self.starts.iter().position(|start| *start == (role, up)).unwrap_or_else(|| {
            self.starts.push((role, up));
            self.starts.len() - 1
        });
        self.path_starts.push(number(index));
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        self.text_bytes.push(number(text.len()));
        self.texts.extend_from_slice(text);
    }

    pub(super) fn finish(self) -> Columns {
        Columns {
            starts: self.starts.into_iter().map(|(role, up)| start_message(role, up)).collect(),
            path_starts: self.path_starts,
            shared_bytes: self.shared_bytes,
            texts: self.texts.into(),
            text_bytes: self.text_bytes,
        }
    }
}

/// Takes paths and texts from the columns. Every method returns `None` if a column has no more values, or one
/// that no writer makes.
pub(super) struct ColumnReader<'a> {
    starts: Vec<(Role, u8)>,
    path_starts: Iter<'a, u32>,
    shared_bytes: Iter<'a, u32>,
    texts: &'a [u8],
    text_bytes: Iter<'a, u32>,
    /// The rest of the path before, of which the next one may share bytes.
    before: Vec<u8>,
}

impl<'a> ColumnReader<'a> {
    pub(super) fn new(
        starts: &[wire::Start],
        path_starts: &'a [u32],
        shared_bytes: &'a [u32],
        texts: &'a [u8],
        text_bytes: &'a [u32],
    ) -> Option<ColumnReader<'a>> {
        Some(ColumnReader {
            starts: starts.iter().map(start).collect::<Option<_>>()?,
            path_starts: path_starts.iter(),
            shared_bytes: shared_bytes.iter(),
            texts,
            text_bytes: text_bytes.iter(),
            before: Vec::new(),
        })
    }

    pub(super) fn path(&mut self) -> Option<RolePath> {
        let (role, up) = self.start()?;
        let shared = usize::try_from(*self.shared_bytes.next()?).ok()?;
        let rest = self.text()?;
        if shared > self.before.len() {
            return None;
        }
        self.before.truncate(shared);
        self.before.extend_from_slice(rest);
        match up {
            EVERY_LEVEL => RolePath::everywhere_above(role, self.before.clone()),
            up => RolePath::above(role, up, self.before.clone()),
        }
    }

    pub(super) fn start(&mut self) -> Option<(Role, u8)> {
        let index = usize::try_from(*self.path_starts.next()?).ok()?;
        self.starts.get(index).copied()
    }

    pub(super) fn name(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(*self.text_bytes.next()?).ok()?;
        let (text, texts) = self.texts.split_at_checked(length)?;
        self.texts = texts;
        Some(text)
    }

    /// Whether all values of all columns were taken.
    pub(super) fn is_at_end(&self) -> bool {
        self.path_starts.len() == 0
            && self.shared_bytes.len() == 0
            && self.texts.is_empty()
            && self.text_bytes.len() == 0
    }
}

/// Returns the rows of a set as the numbers of rows that it leaves out before each of them. `rows` are in
/// ascending order.
pub(super) fn skipped_rows(rows: Vec<usize>) -> Vec<u32> {
    let mut next = 0;
    rows.into_iter().map(|row| number(row - std::mem::replace(&mut next, row + 1))).collect()
}

pub(super) fn number(number: usize) -> u32 {
    u32::try_from(number).expect("the numbers and lengths of observations are far below 2^32")
}

fn start_message(role: Role, up: u8) -> wire::Start {
    let (role, base) = match role {
        Role::Workspace => (wire::Role::Workspace, 0),
        Role::Target => (wire::Role::Target, 0),
        Role::Cargo => (wire::Role::Cargo, 0),
        Role::Sysroot => (wire::Role::Sysroot, 0),
        Role::Absolute => (wire::Role::Absolute, 0),
        Role::Base(index) => (wire::Role::Base, index),
    };
    wire::Start { role: role.into(), base: base.into(), up: up.into() }
}

fn start(message: &wire::Start) -> Option<(Role, u8)> {
    let role = match wire::Role::try_from(message.role).ok()? {
        wire::Role::Workspace => Role::Workspace,
        wire::Role::Target => Role::Target,
        wire::Role::Cargo => Role::Cargo,
        wire::Role::Sysroot => Role::Sysroot,
        wire::Role::Absolute => Role::Absolute,
        wire::Role::Base => Role::Base(u8::try_from(message.base).ok()?),
    };
    Some((role, u8::try_from(message.up).ok()?))
}
