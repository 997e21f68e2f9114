//! moon, the one client at hand that compresses what it sends and asks for what is
//! compressed.

use crate::moon_project::{Moon, assert_same, is_hit};
use crate::server::{Server, Settings};
use crate::tools::skipped;

#[test]
fn moon_hits_what_it_wrote_compressed_or_not() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("server"), Settings::default());
    for (compression, instance) in [("zstd", ""), ("zstd", "a/b"), ("none", "c")] {
        let name = format!("{compression}-{}", instance.replace('/', "-"));
        let moon = Moon::new(&dir.path().join(name), server.grpc_port(), compression, instance);
        let output = moon.make();
        assert!(!is_hit(&output), "{compression}: a cold run was a hit\n{output}");
        let written = moon.outputs();
        moon.clean();
        let output = moon.make();
        assert!(is_hit(&output), "{compression}, instance `{instance}`: no hit\n{output}");
        assert!(output.contains("this is said on stdout"), "{output}");
        assert_same(&moon.outputs(), &written);
    }
}
