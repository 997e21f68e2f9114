//! Finding the engine: it lies beside the client, under one name, and nowhere else.
//!
//! `PATH` is not searched. A `kached` from somewhere else would be of another version at
//! best.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The engine's file name.
const ENGINE: &str = "kached";

/// Why there is no engine.
#[derive(Debug, Error)]
pub enum EngineError {
    /// We do not know where we are ourselves.
    #[error("failed to find out where this program lies: {0}")]
    Nowhere(#[source] io::Error),
    /// It could not be executed.
    #[error("failed to execute `{}`: {source}\nhint: `kache` and `kached` are installed side by side; install kache again", path.display())]
    Exec {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the engine is: beside this program, after links are followed.
pub fn engine_path() -> Result<PathBuf, EngineError> {
    let own = std::env::current_exe().map_err(EngineError::Nowhere)?;
    let own = own.canonicalize().unwrap_or(own);
    Ok(own.with_file_name(ENGINE))
}
