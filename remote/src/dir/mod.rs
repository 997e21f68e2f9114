//! Folders that several machines share.

mod ages;
mod collection;
mod collector;
mod folder;
mod remote;
mod threads;

#[cfg(test)]
pub(crate) use collection::Collected;
pub use remote::DirRemote;
