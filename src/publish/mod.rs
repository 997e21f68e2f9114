//! From a finished compile to a stored result.
