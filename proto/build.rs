//! Generates the contracts with protox, so that no `protoc` has to be installed.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "trilith/v1/kv.proto",
        "trilith/v1/admin.proto",
        "trilith/v1/meta.proto",
        "trilith/v1/peer.proto",
        "trilith/v1/command.proto",
    ];
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("trilith.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".trilith.v1").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=trilith");
    Ok(())
}
