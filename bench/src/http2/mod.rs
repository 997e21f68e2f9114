//! The part of an HTTP/2 client that a load generator needs.
//!
//! A general client spends as much time on a small request as the server, on the same processors, so that the
//! benchmark would measure the client. This one writes frames that were encoded before, and reads only the frame
//! headers and the trailers of a response. Of gRPC it knows the five bytes before a message.

pub(crate) mod frame;
pub(crate) mod hpack;
mod huffman;
