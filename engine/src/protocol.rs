//! The messages of `proto/weir.proto`; docs/design/0005-protocol.md explains them.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::large_enum_variant,
    clippy::too_many_lines,
    reason = "generated; the documentation is in the proto file"
)]

tonic::include_proto!("weir.v1");

/// Version of the protocol; a peer of a newer one is refused by name.
pub const PROTOCOL_VERSION: u32 = 1;
