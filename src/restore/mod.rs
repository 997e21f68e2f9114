//! From a result to files and messages of this checkout.
