//! The questions about locators that publish asks the adapter of the compiler.
//!
//! A locator is a variable whose value serves to find files and for nothing else (KEY-07). Only an adapter can
//! prove that, because the proof needs the sources and macros of the compile's language.

use std::fmt::Debug;

use bytes::Bytes;
use kache_cas::{ActionCache, Digest, StoreError};

use crate::action::{OutputKind, Task};
use crate::inputs::Input;
use crate::outputs::dep_info::DepInfo;

/// Finds proofs for the compiles of one call.
pub trait LocatorProver: Debug {
    /// Reads everything that the proof needs, such as source files and records in the action cache. Returns
    /// `None` if no variable has to be proven, and nothing has to be stored for later proofs.
    fn prove(
        &self,
        task: &Task,
        info: &DepInfo,
        inputs: &[Input],
        actions: &dyn ActionCache,
    ) -> Result<Option<Box<dyn LocatorProof>>, StoreError>;

    /// Returns what later proofs need to know of these outputs, in its stored form; `None` if nothing is
    /// stored about them. It goes to remotes together with the outputs.
    fn notes(
        &self,
        outputs: &[(OutputKind, Digest)],
        actions: &dyn ActionCache,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Stores what [`LocatorProver::notes`] returned for the same outputs on another machine. Bytes that are
    /// not understood are not stored.
    fn accept_notes(
        &self,
        outputs: &[(OutputKind, Digest)],
        notes: &[u8],
        actions: &dyn ActionCache,
    ) -> Result<(), StoreError>;
}

/// The proof for one compile.
pub trait LocatorProof {
    /// Whether this variable is proven to be a locator.
    fn is_locator(&self, name: &str) -> bool;

    /// Stores what later proofs need to know of these outputs. This is called after the result was accepted.
    fn store_notes(
        &self,
        outputs: &[(OutputKind, Digest)],
        actions: &dyn ActionCache,
    ) -> Result<(), StoreError>;
}
