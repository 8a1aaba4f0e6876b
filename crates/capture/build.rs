//! Compiles the programs under `bpf/` with clang.
//!
//! Any clang from 14 on will do (Debian 12's own is 14). What is missing is said in
//! one message with the package that has it.
#![expect(clippy::disallowed_methods, reason = "a build script is configured by its environment")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// In order of preference; the variable `CLANG` goes before them.
const CLANGS: [&str; 7] =
    ["clang-19", "clang", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"];
const OLDEST_CLANG: u32 = 14;
const OBJECTS: [&str; 4] = ["tls", "process", "opening", "answer"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let variable =
        |name: &str| env::var(name).map_err(|error| format!("cannot read {name}: {error}"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let headers = PathBuf::from(variable("DEP_BPF_INCLUDE")?);
    let arch = match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => {
            return Err(format!("cannot build for {other}; sonde reads x86-64 and arm64 programs"));
        }
    };
    let clang = find_clang()?;
    for object in OBJECTS {
        compile(&clang, arch, &headers, object, &out)?;
    }
    Ok(())
}

fn find_clang() -> Result<String, String> {
    let chosen = env::var("CLANG").ok();
    let candidates = chosen.iter().map(String::as_str).chain(CLANGS);
    let mut too_old = Vec::new();
    for clang in candidates {
        match major_version(clang) {
            Some(version) if version >= OLDEST_CLANG => return Ok(clang.to_owned()),
            Some(version) => too_old.push(format!("{clang} is version {version}")),
            None => {}
        }
    }
    let found = if too_old.is_empty() { "none was found".to_owned() } else { too_old.join(", ") };
    Err(format!(
        "cannot compile the eBPF programs: clang {OLDEST_CLANG} or newer is needed, {found};\n\
         install it (Debian and Ubuntu: apt-get install clang; Fedora: dnf install clang), \
         or name one in the variable CLANG"
    ))
}

fn major_version(clang: &str) -> Option<u32> {
    let output = Command::new(clang).arg("-dumpversion").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().split('.').next()?.parse().ok()
}

fn compile(
    clang: &str,
    arch: &str,
    headers: &Path,
    object: &str,
    out: &Path,
) -> Result<(), String> {
    let source = format!("bpf/{object}.bpf.c");
    let output = Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Werror"])
        .arg(format!("-D__TARGET_ARCH_{arch}"))
        .arg("-I")
        .arg(headers)
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(out.join(format!("{object}.bpf.o")))
        .output()
        .map_err(|error| format!("cannot run {clang}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "cannot compile {source} with {clang}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}
