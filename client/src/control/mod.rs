//! The control protocol between client and daemon: length-delimited protobuf over the private socket.

mod blocking;
mod frame;

pub use blocking::{FrameStream, StreamError};
pub use frame::{Decoder, FRAME_BYTES_MAX, FrameError, decode, encode};
pub use kache_proto::control::*;
