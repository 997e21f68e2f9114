//! As much of an HTTP/2 client as a load generator needs, and no more.
//!
//! A general client spends as much on a small request as the servers measured here do, and
//! shares their processors: it would measure itself. This one writes frames that were
//! encoded before, and of an answer reads the frame headers and the trailers. It knows no
//! gRPC but the five bytes before a message, and no meaning of any.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;
