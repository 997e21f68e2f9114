//! The daemon as its users meet it: the real programs in a home of their own.

// What a process holds and has of its starter is read from `/proc`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod closed;
mod fake;
mod home;
mod lifecycle;
mod neighbours;
mod races;
mod store;
mod unwell;
mod versions;
