//! The wire messages of kache and of the Remote Execution API.
//!
//! `./x generate` writes everything under `generated/` from `protos/proto`. It is committed, so
//! that a build of kache needs no protoc. Other crates use the names exported here, such as
//! `kache_proto::reapi` and `kache_proto::bytestream`, and never a generated module, so that a
//! change of the generator concerns only this file.
//!
//! [`compressed_blob`] is the compressed form in which blobs travel.
//!
//! This crate knows encodings only: it computes no digest and checks nothing.

#[cfg(feature = "reapi")]
pub mod compressed_blob;

#[expect(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]
#[cfg_attr(
    feature = "reapi",
    expect(clippy::allow_attributes, unused_qualifications, reason = "generated code")
)]
mod generated {
    #[cfg(feature = "reapi")]
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
    #[cfg(feature = "reapi")]
    pub mod google {
        pub mod bytestream {
            include!("generated/google.bytestream.rs");
        }
        pub mod rpc {
            include!("generated/google.rpc.rs");
        }
    }
    #[cfg(feature = "reapi")]
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
        pub mod events {
            pub mod v1 {
                include!("generated/kache.events.v1.rs");
            }
        }
        pub mod pathset {
            pub mod v1 {
                include!("generated/kache.pathset.v1.rs");
            }
        }
        pub mod seeds {
            pub mod v1 {
                include!("generated/kache.seeds.v1.rs");
            }
        }
        pub mod trail {
            pub mod v1 {
                include!("generated/kache.trail.v1.rs");
            }
        }
        pub mod upload {
            pub mod v1 {
                include!("generated/kache.upload.v1.rs");
            }
        }
    }
}

#[cfg(feature = "reapi")]
pub use generated::build::bazel::remote::execution::v2 as reapi;
#[cfg(feature = "reapi")]
pub use generated::build::bazel::semver;
#[cfg(feature = "reapi")]
pub use generated::google::{bytestream, rpc};
#[cfg(feature = "reapi")]
pub use generated::grpc::health::v1 as health;
pub use generated::kache::control::v1 as control;
pub use generated::kache::events::v1 as events;
pub use generated::kache::pathset::v1 as path_set;
pub use generated::kache::seeds::v1 as seeds;
pub use generated::kache::trail::v1 as trail;
pub use generated::kache::upload::v1 as upload;
pub use prost::{Message, length_delimiter_len};
#[cfg(feature = "reapi")]
pub use prost_types as well_known;
