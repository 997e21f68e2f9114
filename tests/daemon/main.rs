//! The daemon as users see it: the real programs in their own home.

// The daemon's descriptors and inherited state are read from `/proc`.
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
