//! The daemon as its users meet it: the real programs in a home of their own.

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
