//! Writes `protos/src/generated/*.rs` from `protos/proto/**/*.proto`.
//!
//! Only someone who changes a `.proto` file runs this (`./x generate`); its output is
//! committed, so nobody who builds kache needs it, nor protoc. `./x lint` runs it and
//! fails if the committed files differ.

use std::path::Path;

use anyhow::{Context, Result};

/// Every file that is compiled; imports are found from these.
const FILES: &[&str] = &[
    "reapi/remote_execution.proto",
    "reapi/bytestream.proto",
    "reapi/health.proto",
    "kache/control.proto",
    "kache/events.proto",
    "kache/seeds.proto",
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

    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(&out_dir)
        .compile_fds_with_config(descriptors, prost)
        .context("failed to generate the bindings")
}
