//! Finds the engine `kached`, which is installed in the client's directory.
//!
//! `PATH` is not searched: a `kached` from another directory is probably of another version.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The engine's file name.
const ENGINE: &str = "kached";

/// The reason why the engine cannot be executed.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The system does not say where this program lies.
    #[error("failed to find the path of this program: {0}")]
    OwnPath(#[source] io::Error),
    /// The engine is missing, or the system does not execute it.
    #[error("failed to execute `{}`: {source}\nhint: `kache` and `kached` are installed side by side; install kache again", path.display())]
    Exec {
        /// The path where the engine should be.
        path: PathBuf,
        /// The error that the operating system returned.
        source: io::Error,
    },
}

/// Returns the path of the engine, in the directory of this program's real file. The file need
/// not exist.
pub fn engine_path() -> Result<PathBuf, EngineError> {
    let own = std::env::current_exe().map_err(EngineError::OwnPath)?;
    let own = own.canonicalize().unwrap_or(own);
    Ok(own.with_file_name(ENGINE))
}
