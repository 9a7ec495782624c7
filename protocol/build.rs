//! Compiles `proto/hongyan.proto` with protox, a compiler in Rust, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/hongyan.proto");
    let descriptors = protox::compile(["proto/hongyan.proto"], ["proto"])?;
    prost_build::Config::new()
        .bytes(["."])
        // Without `Debug` no body or token can reach a log line by `{:?}` (promise R10).
        .skip_debug(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
