//! Tests of the remotes that speak HTTP, against servers in this process.

mod location;
