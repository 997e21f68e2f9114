//! The compiler that ran after a miss: its result, and another wrapper in front of it.

mod captured;
mod fallback;
mod known_file;

pub use captured::{Captured, Exit, MessagePiece, MessageStream};
pub use fallback::{Fallbacks, find_program};
pub use known_file::KnownFile;
