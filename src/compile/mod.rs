//! How a compile that had to run went.

mod captured;

pub use captured::{Captured, Exit, Piece, Stream};
