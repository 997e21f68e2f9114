//! moon, the only client here that sends compressed blobs and requests compressed blobs.

use crate::chokepoint::{Chokepoint, Direction};
use crate::moon_project::{Moon, assert_same, is_hit};
use crate::server::{Server, Settings};
use crate::tools::skipped;

/// A limit between the size of the outputs, 12 MB, and the size of what is transferred if one half is compressible.
const COMPRESSED_BYTES_MAX: usize = 10_000_000;

#[test]
fn moon_gets_hits_for_what_it_wrote_with_and_without_compression() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    for (compression, instance) in [("zstd", ""), ("zstd", "a/b"), ("none", "c")] {
        let name = format!("{compression}-{}", instance.replace('/', "-"));
        let chokepoint = Chokepoint::before(server.grpc_port());
        let moon = Moon::new(&dir.path().join(name), chokepoint.port(), compression, instance);
        let output = moon.make();
        assert!(!is_hit(&output), "{compression}: a cold run was a hit\n{output}");
        let written = moon.outputs();
        moon.clean();
        let output = moon.make();
        assert!(is_hit(&output), "{compression}, instance `{instance}`: no hit\n{output}");
        assert!(output.contains("this is said on stdout"), "{output}");
        assert_same(&moon.outputs(), &written);
        for direction in [Direction::Upload, Direction::Download] {
            let bytes = chokepoint.passed(direction);
            let is_compressed = bytes < COMPRESSED_BYTES_MAX;
            assert_eq!(is_compressed, compression == "zstd", "{compression}, {direction:?}: {bytes} bytes");
        }
    }
}
