//! Folders that several machines share.

mod folder;
mod remote;
mod threads;

pub use remote::DirRemote;
