//! Generates the client of etcd's API with protox, so that no `protoc` has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["etcd_rpc.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).bytes(".etcdserverpb").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
