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

/// What only the commands run: kept apart, it is not mapped with what an idle daemon runs. (The kernel maps the 64 KiB
/// around a page that is needed: `fault_around_bytes`, mm/memory.c.)
const COMMANDS: &[&str] = &[
    "asg_agent::cli",
    "asg_agent::drill",
    "asg_agent::watch",
    "asg_agent::fault",
    "asg_agent::stress",
    "asg_agent::config::load",
    "asg_agent::config::place",
    "asg_agent::config::known_paths",
    "asg_agent::access_log::balancer",
    "asg_agent::access_log::locate",
    "asg_agent::access_log::running",
    "asg_agent::access_log::others",
    "asg_agent::nginx::conf",
    "asg_agent::nginx::master",
    "asg_agent::nginx::built",
    "asg_agent::nginx::answer",
    "asg_agent::sys::attributes",
    "asg_agent::sys::become_like",
    "asg_agent::sys::cgroup",
    "asg_agent::sys::proc",
    "asg_agent::sys::trace",
    "clap_builder",
    "crossterm",
    "flate2",
    "kasuari",
    "ratatui",
    "ratatui_core",
    "ratatui_widgets",
    "ring",
    "rustls",
    "serde_core::de",
    "serde_json::de",
    "serde_json::value",
    "strtime",
    "toml",
    "toml_parser",
    "webpki",
];

/// What answers requests.
const SERVING: &[&str] = &[
    "asg_agent::serve::admin",
    "asg_agent::serve::connection",
    "asg_agent::serve::front",
    "asg_agent::serve::metrics",
    "asg_agent::serve::public",
    "asg_agent::serve::status",
    "axum",
    "axum_core",
    "httparse",
    "hyper",
    "hyper_util",
    "matchit",
    "tower",
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    pack("src/cli/schema.json", &folder.join("schema.json.gz"))?;
    if env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return Ok(());
    }
    let script = folder.join("sections.ld");
    fs::write(&script, sections())?;
    fs::write(folder.join("empty.rs"), "fn main() {}\n")?;
    let script = format!("-Wl,-T,{}", script.display());
    for args in [FOLD, &[script.as_str(), "-Wl,--no-eh-frame-hdr"]] {
        if links(&folder, args) {
            args.iter().for_each(|arg| println!("cargo:rustc-link-arg-bins={arg}"));
        }
    }
    Ok(())
}

/// The linker's script: sections of code that are kept together, and what is left out.
fn sections() -> String {
    let (commands, serving) = (named(COMMANDS), named(SERVING));
    format!(
        "SECTIONS {{ .text.commands : {{ *({commands}) }} .text.serving : {{ *({serving}) }}\n\
         /DISCARD/ : {{ *({TABLES}) }} }} INSERT AFTER .text;\n"
    )
}

/// The sections of functions by their paths, which are mangled as `9asg_agent3cli`, or `asg_agent..cli` in generics.
fn named(paths: &[&str]) -> String {
    let patterns = paths.iter().map(|path| {
        let mangled: String = path.split("::").map(|name| format!("{}{name}", name.len())).collect();
        format!(".text.*{mangled}* .text.*{}..*", path.replace("::", ".."))
    });
    patterns.collect::<Vec<_>>().join(" ")
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
