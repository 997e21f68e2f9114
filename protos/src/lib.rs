//! kache's wire messages, and the one door to the Remote Execution API.
//!
//! Everything under `generated/` is written by `./x generate` from `protos/proto` and
//! committed, so that nobody who builds kache needs protoc. No other crate of ours
//! names a generated module: they say `kache_proto::reapi`, `kache_proto::bytestream`
//! and so on, and a change of generator stays inside this file.
//!
//! This crate knows encodings only: no digest is computed here and nothing is checked.

#[expect(missing_docs, clippy::all, unused_qualifications, unreachable_pub, reason = "generated code")]
mod generated {
    pub mod build {
        pub mod bazel {
            pub mod semver {
                include!("generated/build.bazel.semver.rs");
            }
            pub mod remote {
                pub mod execution {
                    pub mod v2 {
                        include!("generated/build.bazel.remote.execution.v2.rs");
                    }
                }
            }
        }
    }
    pub mod google {
        pub mod bytestream {
            include!("generated/google.bytestream.rs");
        }
        pub mod rpc {
            include!("generated/google.rpc.rs");
        }
    }
    pub mod grpc {
        pub mod health {
            pub mod v1 {
                include!("generated/grpc.health.v1.rs");
            }
        }
    }
    pub mod kache {
        pub mod control {
            pub mod v1 {
                include!("generated/kache.control.v1.rs");
            }
        }
    }
}

pub use generated::build::bazel::remote::execution::v2 as reapi;
pub use generated::build::bazel::semver;
pub use generated::google::{bytestream, rpc};
pub use generated::grpc::health::v1 as health;
pub use generated::kache::control::v1 as control;
pub use prost::Message;
pub use prost_types as well_known;
