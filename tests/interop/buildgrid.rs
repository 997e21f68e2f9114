//! BuildGrid as a cache: blobs in a directory, results in memory.

use std::fs;
use std::path::Path;

use crate::process::{Background, command};
use crate::server::{answers, free_port};
use crate::tools::tool;

/// Starts a BuildGrid on a port, which is returned with it.
pub(crate) fn serve(dir: &Path) -> (Background, u16) {
    let port = free_port();
    let settings = dir.join("buildgrid.yml");
    fs::create_dir_all(dir).expect("the test's directory is writable");
    fs::write(&settings, configuration(port, &dir.join("cas"))).expect("the test's directory is writable");
    let mut command = command(&tool("bgd"), &dir.join("home"));
    command.args(["server", "start"]).arg(settings);
    (Background::start(&mut command, &dir.join("output"), || answers(port)), port)
}

fn configuration(port: u16, blobs: &Path) -> String {
    let blobs = blobs.display();
    format!(
        "server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
authorization:
  method: none
monitoring:
  enabled: false
instances:
  - name: ''
    storages:
      - !disk-storage &blobs
        path: {blobs}
    caches:
      - !lru-action-cache &results
        storage: *blobs
        max-cached-refs: 10000
        allow-updates: true
    services:
      - !action-cache
        cache: *results
      - !cas
        storage: *blobs
      - !bytestream
        storage: *blobs
"
    )
}
