//! How a compile that had to run went.

mod captured;
mod fallback;
mod known_file;

pub use captured::{Captured, Exit, Piece, Stream};
pub use fallback::{Fallbacks, find_program};
pub use known_file::KnownFile;
