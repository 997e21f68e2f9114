//! The commands that show what calls did, as users and programs run them: the real program, a log that the library
//! wrote, and a hermetic home.
//!
//! To accept a changed page: `INSTA_UPDATE=always cargo test --test report`, then read the diff.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

mod actions;
mod calls;
mod explaining;
mod home;
mod pages;
mod schema;
mod validator;
