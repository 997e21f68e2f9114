//! Tests of the remote for the Remote Execution API, against our own server and against one that records what
//! it is sent, or misbehaves.

mod faults;
mod recorder;
mod recorder_server;
mod requests;
mod round_trips;
mod samples;
mod uploads;
