//! Tests of the remote for the Remote Execution API, against our own server and against servers that record
//! what they are sent, or misbehave.

mod authority;
mod own_server;
mod round_trips;
mod samples;
