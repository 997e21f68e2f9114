//! Writes `protos/src/generated/*.rs` from `protos/proto/**/*.proto`.
//!
//! It is needed only after a change of a `.proto` file (`./x generate`). Its output is committed,
//! so that a build of kache needs neither this program nor protoc. `./x lint` runs it and fails if
//! the committed files differ.

use std::path::Path;

use anyhow::{Context, Result};

/// The files to compile; the files that they import are found from these.
const FILES: &[&str] = &[
    "reapi/remote_execution.proto",
    "reapi/bytestream.proto",
    "reapi/health.proto",
    "kache/control.proto",
    "kache/events.proto",
    "kache/path_set.proto",
    "kache/seeds.proto",
    "kache/trail.proto",
    "kache/upload.proto",
];

fn main() -> Result<()> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the generator lies inside the crate it generates for")?;
    let proto_dir = crate_dir.join("proto");
    let out_dir = crate_dir.join("src/generated");
    let descriptors = protox::compile(FILES, [&proto_dir])
        .with_context(|| format!("failed to compile the files in `{}`", proto_dir.display()))?;

    // `Bytes` instead of `Vec<u8>`: a received chunk is then a slice of the network
    // buffer, and a stored blob is sent without a copy of its own.
    let mut prost = prost_build::Config::new();
    prost.bytes(["."]);
    // The status is much larger than all other replies.
    prost.boxed(".kache.control.v1.Reply.kind.status");

    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(&out_dir)
        .compile_fds_with_config(descriptors, prost)
        .context("failed to generate the bindings")
}
