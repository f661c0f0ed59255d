//! Packs what `agent schema` tells; and what makes the release smaller when it is linked, as far as the linker knows how:
//! it is asked by linking an empty program.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::{Compression, write::GzEncoder};

/// One copy of functions whose code is the same (lld only).
const FOLD: &[&str] = &["-Wl,--icf=all"];

/// No tables for unwinding, a tenth of the file: a panic aborts, so nothing unwinds (`panic` in Cargo.toml).
const TABLES: &str = ".eh_frame .gcc_except_table .gcc_except_table.*";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    pack("src/cli/schema.json", &folder.join("schema.json.gz"))?;
    if env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return Ok(());
    }
    let script = folder.join("sections.ld");
    fs::write(&script, format!("SECTIONS {{ /DISCARD/ : {{ *({TABLES}) }} }} INSERT AFTER .text;\n"))?;
    fs::write(folder.join("empty.rs"), "fn main() {}\n")?;
    let script = format!("-Wl,-T,{}", script.display());
    for args in [FOLD, &[script.as_str(), "-Wl,--no-eh-frame-hdr"]] {
        if links(&folder, args) {
            args.iter().for_each(|arg| println!("cargo:rustc-link-arg-bins={arg}"));
        }
    }
    Ok(())
}

fn pack(from: &str, to: &Path) -> io::Result<()> {
    println!("cargo:rerun-if-changed={from}");
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(&fs::read(from)?)?;
    fs::write(to, packer.finish()?)
}

/// Whether a program for the target links with these, and without a warning.
fn links(folder: &Path, args: &[&str]) -> bool {
    let var = |name| env::var(name).unwrap_or_default();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("empty.rs").args(["-o", "empty", "-C", "panic=abort", "--target", &var("TARGET")]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", PathBuf::from(linker).display()));
    }
    rustc.args(var("CARGO_ENCODED_RUSTFLAGS").split('\u{1f}').filter(|flag| !flag.is_empty()));
    rustc.args(args.iter().map(|arg| format!("-Clink-arg={arg}")));
    rustc.current_dir(folder).output().is_ok_and(|done| done.status.success() && done.stderr.is_empty())
}
