//! Buildbarn's storage, which checks that a result is complete before it returns it.

use std::fs;
use std::path::Path;

use crate::process::{Background, command};
use crate::server::{answers, free_port};
use crate::tools::tool;

/// Starts a `bb_storage` on a port, which is returned with it.
pub(crate) fn serve(dir: &Path) -> (Background, u16) {
    let port = free_port();
    let settings = dir.join("storage.jsonnet");
    fs::create_dir_all(dir).expect("the test's directory is writable");
    fs::write(&settings, configuration(port)).expect("the test's directory is writable");
    let mut command = command(&tool("bb_storage"), &dir.join("home"));
    command.arg(settings);
    (Background::start(&mut command, &dir.join("output"), || answers(port)), port)
}

fn configuration(port: u16) -> String {
    format!(
        "local inMemory(mebibytes) = {{
  'local': {{
    keyLocationMapInMemory: {{ entries: 65536 }},
    keyLocationMapMaximumGetAttempts: 16,
    keyLocationMapMaximumPutAttempts: 64,
    oldBlocks: 4,
    currentBlocks: 8,
    newBlocks: 1,
    blocksInMemory: {{ blockSizeBytes: mebibytes * 1024 * 1024 }},
  }},
}};
{{
  grpcServers: [{{
    listenAddresses: ['127.0.0.1:{port}'],
    authenticationPolicy: {{ allow: {{}} }},
  }}],
  maximumMessageSizeBytes: 16 * 1024 * 1024,
  contentAddressableStorage: {{
    backend: inMemory(32),
    getAuthorizer: {{ allow: {{}} }},
    putAuthorizer: {{ allow: {{}} }},
    findMissingAuthorizer: {{ allow: {{}} }},
  }},
  actionCache: {{
    backend: {{
      completenessChecking: {{
        backend: inMemory(1),
        maximumTotalTreeSizeBytes: 64 * 1024 * 1024,
      }},
    }},
    getAuthorizer: {{ allow: {{}} }},
    putAuthorizer: {{ allow: {{}} }},
  }},
}}
"
    )
}
