//! Every `console` block of the documents is run, on a machine of its own, and compared with what stands there.
//!
//! The machine is made of namespaces: pids, mounts, network. On it are a real nginx with the packaged configuration,
//! `agent serve`, a metadata service, and the simulated load balancer `my-alb.example` with two nodes that probe every
//! five seconds; behind it a second target that only answers. A line that begins with `$ ` is run by bash as root, and
//! what follows is its output. `…` on a line of its own stands for lines that aren't shown.
//!
//! Figures, times and pids are masked, so that only words can differ. `make docs` writes what differs.
//!
//! Commands that can't run here stand in `sh` blocks, which nobody runs: those that need an AWS account, a package
//! manager, SSH, a build, a full screen, or longer than a test may take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

mod blocks;
mod machine;

use std::fs;
use std::path::{Path, PathBuf};

use machine::Machine;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn writes() -> bool {
    std::env::var_os("DOCS").is_some_and(|mode| mode == "write")
}

/// Runs a document's blocks in order and compares; with `DOCS=write` it writes the document instead.
fn holds(machine: &Machine, page: &Path) {
    machine.settle();
    let text = fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    let (now, wrong) = blocks::replayed(&text, |command| machine.run(command));
    if writes() {
        if now != text {
            fs::write(page, now).unwrap();
        }
        return;
    }
    assert!(wrong.is_empty(), "{}: `make docs` writes it anew\n\n{}", page.display(), wrong.join("\n\n"));
}

/// `pages` on a machine of their own; `name` is the calling test's.
fn all_hold(name: &str, pages: &[PathBuf]) {
    if let Some(machine) = machine::enter(name) {
        pages.iter().for_each(|page| holds(&machine, page));
    }
}

/// Where README's picture of `agent watch` was removed, `make docs` takes it anew: all of this as it shows it.
#[test]
fn the_readme() {
    let Some(machine) = machine::enter("the_readme") else { return };
    let picture = root().join("packaging/papers/pages/watch.svg");
    let view = (writes() && !picture.exists()).then(|| machine.watched());
    holds(&machine, &root().join("README.md"));
    if let Some(view) = view {
        fs::write(&picture, machine.picture(&view)).unwrap();
    }
    holds(&machine, &root().join("packaging/aws/README.md"));
    assert!(picture.exists(), "`make docs` takes the picture");
}

/// Details belong in the manual.
#[test]
fn the_readme_has_at_most_200_lines() {
    assert!(fs::read_to_string(root().join("README.md")).unwrap().lines().count() <= 200);
}

#[test]
fn the_manual() {
    all_hold("the_manual", &pages("packaging/papers/pages"));
}

/// The Korean one has the same blocks, so that one run proves both.
#[test]
fn the_tutorial() {
    let pages = ["tutorial.md", "tutorial.ko.md"].map(|name| root().join("packaging/aws").join(name));
    all_hold("the_tutorial", &pages[..1]);
    let [english, korean] = pages.each_ref().map(|page| fs::read_to_string(page).unwrap());
    if writes() {
        fs::write(&pages[1], blocks::with_blocks_of(&korean, &english)).unwrap();
    } else {
        assert_eq!(korean, blocks::with_blocks_of(&korean, &english), "`make docs` copies the blocks");
    }
}

/// Those that make something fail come last: the others tell of a machine on which all is well.
fn pages(folder: &str) -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().flatten().map(|entry| entry.path()).collect();
    pages.retain(|page| page.extension().is_some_and(|end| end == "md"));
    let fails = |page: &PathBuf| ["fail", "drill"].iter().any(|verb| page.to_string_lossy().contains(verb));
    pages.sort_by_key(|page| (fails(page), page.clone()));
    pages
}
