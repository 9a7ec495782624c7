//! Says in a sentence what is missing when the demo is to be embedded and was not built.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_DEMO").is_none() {
        return;
    }
    // The embedded files are read when the program is compiled, so a newer demo means to compile again.
    println!("cargo::rerun-if-changed=../web-demo/dist");
    if !Path::new("../web-demo/dist/index.html").exists() {
        println!(
            "cargo::error=The feature `demo` embeds web-demo/dist, which is not built yet: run `npm run build`, \
             which builds the SDK, the demo and this relay in order, or leave the feature out."
        );
    }
}
