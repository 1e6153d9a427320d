//! Generates the protocol's types and its gRPC service from `proto/weir.proto`, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/weir.proto");
    let files = protox::compile(["proto/weir.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".weir.v1.Frame.rows")
        .bytes(".weir.v1.Ack.version")
        .bytes(".weir.v1.Restore.versions")
        .compile_fds(files)?;
    Ok(())
}
