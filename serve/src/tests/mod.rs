//! The server as its clients see it, and the helpers of these tests.

mod action_cache;
mod bytestream;
mod cas;
mod grpc_server;
mod http;
mod listen;
pub(crate) mod program;
mod protocol_router;
mod socket_server;
pub(crate) mod test_authority;
pub(crate) mod tls_client;
