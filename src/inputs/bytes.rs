//! A binary encoding for the snapshot file and for cached questions and answers.
//!
//! Integers are little-endian with a fixed length; bytes have their length in front. Reading never panics.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use kache_cas::{Digest, DigestFunction, Hash};

use super::stamp::{Inode, Stamp};

/// Appends values to the bytes.
#[derive(Debug, Default)]
pub(crate) struct ByteWriter(pub(crate) Vec<u8>);

impl ByteWriter {
    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.u64(bytes.len() as u64).0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn path(&mut self, path: &Path) -> &mut Self {
        self.bytes(path.as_os_str().as_bytes())
    }

    pub(crate) fn optional(&mut self, bytes: Option<impl AsRef<[u8]>>) -> &mut Self {
        match bytes {
            None => self.u32(0),
            Some(bytes) => self.u32(1).bytes(bytes),
        }
    }

    pub(crate) fn digest<K>(&mut self, digest: &Digest<K>) -> &mut Self {
        self.function(digest.function).0.extend_from_slice(&digest.hash.0);
        self.u64(digest.size_bytes)
    }

    pub(crate) fn function(&mut self, function: DigestFunction) -> &mut Self {
        self.u32(match function {
            DigestFunction::Sha256 => 0,
            DigestFunction::Blake3 => 1,
        })
    }

    pub(crate) fn stamp(&mut self, stamp: &Stamp) -> &mut Self {
        self.u64(stamp.inode.device).u64(stamp.inode.mount).u64(stamp.inode.number).u64(stamp.size_bytes);
        self.u64(stamp.mtime_ns.cast_unsigned()).u64(stamp.ctime_ns.cast_unsigned()).u32(stamp.mode)
    }
}

/// Reads values from the front of the bytes. Each method returns `None` if there are too few bytes.
#[derive(Debug)]
pub(crate) struct ByteReader<'a>(pub(crate) &'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.take(len)
    }

    pub(crate) fn path(&mut self) -> Option<PathBuf> {
        self.bytes().map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)))
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        self.bytes().and_then(|bytes| String::from_utf8(bytes.to_owned()).ok())
    }

    pub(crate) fn digest<K>(&mut self) -> Option<Digest<K>> {
        let (function, hash) = (self.function()?, self.hash()?);
        Some(Digest::new(function, hash, self.u64()?))
    }

    pub(crate) fn hash(&mut self) -> Option<Hash> {
        Some(Hash(self.take(Hash::LEN)?.try_into().ok()?))
    }

    pub(crate) fn function(&mut self) -> Option<DigestFunction> {
        match self.u32()? {
            0 => Some(DigestFunction::Sha256),
            1 => Some(DigestFunction::Blake3),
            _ => None,
        }
    }

    pub(crate) fn stamp(&mut self) -> Option<Stamp> {
        Some(Stamp {
            inode: Inode { device: self.u64()?, mount: self.u64()?, number: self.u64()? },
            size_bytes: self.u64()?,
            mtime_ns: self.u64()?.cast_signed(),
            ctime_ns: self.u64()?.cast_signed(),
            mode: self.u32()?,
        })
    }
}
