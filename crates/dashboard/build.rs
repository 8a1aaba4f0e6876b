//! Makes cargo look again when the page was built anew.

fn main() {
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui/dist");
    // An empty directory has a time that changes; one that is missing would make every build run
    // this again. Where it cannot be made, that is the price.
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo:warning=cannot create {dist}: {error}; the page is not embedded");
    }
    println!("cargo:rerun-if-changed={dist}");
    println!("cargo:rerun-if-changed=build.rs");
}
