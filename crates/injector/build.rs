//! Finds the Python bundle that `./dev agents` made; without it, nothing is embedded.

use std::path::Path;

fn main() {
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/../../agents/python/dist");
    // A directory that is missing would make every build run this again.
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo:warning=cannot create {dist}: {error}; the Python agent is not embedded");
    }
    println!("cargo:rerun-if-changed={dist}/python.tar.gz");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(has_bundle)");
    if Path::new(dist).join("python.tar.gz").exists() {
        println!("cargo:rustc-cfg=has_bundle");
    }
}
