//! The crates in the binary: their licences' texts, and a CycloneDX bill of materials, as `cargo metadata` knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// The crate that is the binary.
const ROOT: &str = "asg-agent";

/// One crate.
#[derive(Debug)]
pub(crate) struct Crate {
    name: String,
    version: String,
    licence: String,
    repository: Option<String>,
    folder: PathBuf,
    checksum: Option<String>,
    depends_on: BTreeSet<String>,
}

impl Crate {
    /// As the package-url specification writes a crate.
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// Every crate that is linked into the binary for `target`, the binary's own first; by package identifier.
pub(crate) fn in_the_binary(target: &str) -> anyhow::Result<BTreeMap<String, Crate>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--format-version=1", "--locked", "--filter-platform", target]);
    let output = cargo.output().context("cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let workspace = PathBuf::from(all["workspace_root"].as_str().unwrap_or_default());
    let lock = fs::read_to_string(workspace.join("Cargo.lock")).context("Cargo.lock")?;
    let checksums = checksums(&lock);
    let packages = by_id(&all["packages"], "id");
    let nodes = by_id(&all["resolve"]["nodes"], "id");
    let root = packages.iter().find(|(_, p)| p["name"] == ROOT).context("no crate of that name")?.0;
    let mut crates = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(id) = open.pop() {
        if crates.contains_key(&id) {
            continue;
        }
        let (package, node) = (packages.get(&id).context("no package")?, nodes.get(&id).context("no node")?);
        let depends_on = linked(node, &packages);
        open.extend(depends_on.iter().cloned());
        crates.insert(id, read(package, depends_on, &checksums)?);
    }
    Ok(crates)
}

fn by_id<'a>(list: &'a Value, key: &str) -> BTreeMap<String, &'a Value> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|one| Some((one[key].as_str()?.to_owned(), one))).collect()
}

/// The normal dependencies of a node: what only builds or tests it is in no binary, nor is a procedural macro.
fn linked(node: &Value, packages: &BTreeMap<String, &Value>) -> BTreeSet<String> {
    let normal =
        |dep: &&Value| dep["dep_kinds"].as_array().is_some_and(|k| k.iter().any(|k| k["kind"].is_null()));
    let ids = node["deps"].as_array().into_iter().flatten().filter(normal);
    let ids = ids.filter_map(|dep| dep["pkg"].as_str().map(str::to_owned));
    ids.filter(|id| packages.get(id).is_some_and(|package| !is_macro(package))).collect()
}

fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets.flat_map(|t| t["kind"].as_array().into_iter().flatten()).any(|kind| kind == "proc-macro")
}

/// The checksum that the lock file holds, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.map(|v| v.trim_end_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]").skip(1);
    blocks.filter_map(|b| Some(((value(b, "name")?, value(b, "version")?), value(b, "checksum")?))).collect()
}

fn read(
    package: &Value,
    depends_on: BTreeSet<String>,
    checksums: &BTreeMap<(String, String), String>,
) -> anyhow::Result<Crate> {
    let text = |key: &str| package[key].as_str().map(str::to_owned);
    let name = text("name").context("a crate without a name")?;
    let version = text("version").context("a crate without a version")?;
    // The old spelling of "OR".
    let licence = text("license").with_context(|| format!("{name} names no licence"))?.replace('/', " OR ");
    let manifest = PathBuf::from(text("manifest_path").unwrap_or_default());
    let checksum = checksums.get(&(name.clone(), version.clone())).cloned();
    let folder = manifest.parent().unwrap_or(Path::new(".")).to_owned();
    Ok(Crate { name, version, licence, repository: text("repository"), folder, checksum, depends_on })
}

/// Every licence's text once, with the crates that bring it.
pub(crate) fn licences(crates: &BTreeMap<String, Crate>) -> anyhow::Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut list = String::new();
    for one in crates.values().filter(|one| one.name != ROOT) {
        let who = format!("{} {}", one.name, one.version);
        writeln!(list, "{who}: {}", one.licence)?;
        for text in texts_of(&one.folder)? {
            texts.entry(text).or_default().insert(who.clone());
        }
    }
    let mut all = format!("agent is made with these crates, under these licences:\n\n{list}");
    for (text, who) in texts {
        let who: Vec<String> = who.into_iter().collect();
        write!(all, "\n{}\n{}:\n\n{}\n", "-".repeat(80), who.join(", "), text.trim_end())?;
    }
    Ok(all)
}

/// The files of a crate that hold a licence or a notice. One without any is told by its name in the list alone.
fn texts_of(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if path.is_file()
            && ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"].iter().any(|n| name.starts_with(n))
        {
            texts.insert(String::from_utf8_lossy(&fs::read(&path)?).replace("\r\n", "\n"));
        }
    }
    Ok(texts)
}

/// CycloneDX 1.5, without a serial number and a time of its own, so that it is the same whenever it is made.
pub(crate) fn bill_of_materials(crates: &BTreeMap<String, Crate>) -> anyhow::Result<String> {
    let root = crates.values().find(|one| one.name == ROOT).context("no root")?;
    let purl = |id: &String| crates.get(id).map(Crate::purl);
    let component = |one: &Crate| {
        let mut component = json!({
            "type": if one.name == ROOT { "application" } else { "library" },
            "bom-ref": one.purl(), "purl": one.purl(), "name": one.name, "version": one.version,
            "licenses": [{"expression": one.licence}],
        });
        if let Some(checksum) = &one.checksum {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        if let Some(repository) = &one.repository {
            component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
        }
        component
    };
    let libraries: Vec<Value> = crates.values().filter(|one| one.name != ROOT).map(component).collect();
    let dependencies = crates.values().map(|one| {
        json!({"ref": one.purl(), "dependsOn": one.depends_on.iter().filter_map(purl).collect::<Vec<_>>()})
    });
    let bill = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": component(root)},
        "components": libraries,
        "dependencies": dependencies.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&bill)? + "\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_bill_names_what_is_linked_and_not_what_only_builds_or_tests() {
        let crates = in_the_binary("x86_64-unknown-linux-gnu").unwrap();
        let bill: Value = serde_json::from_str(&bill_of_materials(&crates).unwrap()).unwrap();
        let all = bill["components"].as_array().unwrap();
        let has = |name: &str| all.iter().any(|c| c["name"] == name);
        assert!(has("tokio") && has("hyper") && has("clap"));
        for absent in ["proptest", "serde_derive", "clap_mangen", "windows-sys", ROOT] {
            assert!(!has(absent), "{absent}");
        }
        assert!(all.iter().all(|c| c["hashes"][0]["content"].as_str().is_some_and(|sum| sum.len() == 64)));
    }

    #[test]
    fn every_crate_is_in_the_list_and_the_common_texts_are_there_once() {
        let crates = in_the_binary("x86_64-unknown-linux-gnu").unwrap();
        let text = licences(&crates).unwrap();
        for one in crates.values().filter(|one| one.name != ROOT) {
            assert!(text.contains(&format!("\n{} {}: ", one.name, one.version)), "{}", one.name);
        }
        assert!(text.contains("Permission is hereby granted") && text.contains("Apache License"));
    }
}
