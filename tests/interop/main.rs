//! Programs of other projects that use a real daemon as their cache. Each test proves a cold write, a clean, and hits
//! with the same bytes.
//!
//! One file a client; what they share is in the files without tests: `tools` finds the
//! programs (installed by `tests/support/install/*.sh`, which `./x test` runs), `process`
//! runs them, `server` is the cache under test, `chokepoint` breaks connections,
//! `bazel_project`, `moon_project` and `probe` are what drives the clients.
//!
//! In `remotes` the roles are exchanged: kache is the client, and the servers are programs of other projects. The
//! machines that build there are those of the tests of builds. In `recording` the server is one of our own, which examines
//! every request.
//!
//! No test here knows kache's code: what it says goes over a socket or comes from a file.
//! If a program is missing, its test fails and says what to install. `KACHE_INTEROP=skip`
//! skips all of them, on machines where they cannot be installed; CI must not set it. With
//! `KACHE_INTEROP_SERVER=bazel-remote` the same scenarios run against that server instead,
//! which tells whether a failure is ours or the scenario's.

mod bazel;
mod bazel_access;
mod bazel_faults;
mod bazel_project;
mod bazel_remote;
#[cfg(target_os = "linux")]
mod buildbarn;
#[cfg(target_os = "linux")]
mod buildgrid;
#[cfg(target_os = "linux")]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests of builds use more of it, and end where it goes wrong"
)]
mod builds;
mod casd;
mod chokepoint;
mod moon;
mod moon_project;
#[cfg(target_os = "linux")]
mod moto;
mod probe;
mod process;
#[cfg(target_os = "linux")]
mod recording;
#[cfg(target_os = "linux")]
mod recording_checks;
#[cfg(target_os = "linux")]
#[expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]
mod recording_server;
#[cfg(target_os = "linux")]
mod remotes;
mod remotetool;
mod server;
mod tls;
mod tools;

// The modules of builds name each other as they do in the tests of builds.
#[cfg(target_os = "linux")]
use builds::{counting, credentials, home, machines, project, registry, report, step, tree};
