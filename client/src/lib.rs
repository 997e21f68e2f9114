//! The client `kache`, which cargo and make start for every compile, and the code with which
//! both programs find and start the daemon.
//!
//! The client is a crate of its own because its start is paid for with every compile. When it
//! was linked from the same library as the engine, `kache` was 12 MB with libstdc++ and started
//! in 2.4 ms: the initialisers of a static library stay, whatever else the linker removes. This
//! crate does not depend on RocksDB, tokio or clap, so that it cannot use them by mistake.
//!
//! It knows where a daemon's sockets are, how to connect to a daemon and how to start one, and
//! it recognises compiler calls. It reads no configuration file and stores nothing.

mod address;
mod compile;
mod connection;
pub mod control;
mod dispatch;
mod engine;
pub mod os;
mod shim;
pub mod staging;
mod start;
pub mod variables;
mod version;

pub use address::{DaemonAddress, KEY_LEN, canonical};
pub use compile::{CompileBackend, EMBEDDED_COMMAND, assignment, compile_with, without_incremental};
pub use connection::{ConnectError, DaemonConnection, HELLO_WAIT_MAX, Intent};
pub use dispatch::main;
pub use engine::{EngineError, engine_path};
pub use start::{READY, START_WAIT_MAX, StartError, Started, Starter};
pub use version::{PROTOCOL, VERSION, is_older};
