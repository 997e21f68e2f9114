//! Proves which variables of a compile are locators: their values serve to find files and for nothing else
//! (KEY-07).
//!
//! `locator` decides by the tokens (`lexer`) of the crate's sources and by the notes of its dependencies.
//! `macro_note` is such a note, and `macro_notes` stores and reads it.

mod lexer;
mod locator;
mod macro_note;
mod macro_notes;
mod pattern;

pub use macro_notes::MacroArguments;
