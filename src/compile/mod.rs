//! How a compile that had to run went.

mod captured;
mod fallback;

pub use captured::{Captured, Exit, Piece, Stream};
pub use fallback::{Fallbacks, find_program};
