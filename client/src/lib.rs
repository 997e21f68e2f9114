//! The client: what cargo and make start for every compile, and what both programs need to
//! find one another.
//!
//! A crate of its own because it is measured in microseconds. Linked from the same library
//! as the engine, `kache` was 12 MB with libstdc++ and started in 2.4 ms, since a static
//! library's initialisers survive whatever else the linker throws away. Here the compiler
//! sees to it: this crate cannot name RocksDB, tokio or clap, because it does not depend on
//! them.
//!
//! It knows where a daemon's sockets are, how to greet and to start one, and whether argv is
//! a compiler call. It reads no configuration file and stores nothing.

mod compile;
pub mod control;
mod dispatch;
mod engine;
pub mod os;
mod place;
mod session;
mod shim;
pub mod staging;
mod start;
pub mod variables;
mod version;

pub use compile::{EMBEDDED, Engine, wrap_with};
pub use dispatch::{Call, main, recognise};
pub use engine::{EngineError, engine_path};
pub use place::{KEY_LEN, Place, canonical};
pub use session::{ConnectError, HELLO_WAIT_MAX, Intent, Session};
pub use start::{READY, START_WAIT_MAX, StartError, Started, Starter};
pub use version::{PROTOCOL, VERSION, is_older};
