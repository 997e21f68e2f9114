//! Tests of the remote for the Remote Execution API, against our own server and against one that records what
//! it is sent, or misbehaves.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod authority;
mod faults;
mod own_server;
mod recorder;
mod recorder_server;
mod requests;
mod round_trips;
mod samples;
mod uploads;
