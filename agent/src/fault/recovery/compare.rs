//! Whether the nginx that runs now is what it was: everything that the record knows of the old one is compared, and what
//! is otherwise is named.

use std::path::Path;

use super::environment;
use crate::fault::lease::record::{Kind, Target};
use crate::fault::plan::preflight::ask_all;
use crate::fault::plan::unit;
use crate::nginx::master::options_of;
use crate::sys::attributes::Attributes;
use crate::sys::environ;
use crate::sys::listening::Listening;
use crate::sys::proc::{Credentials, Exe, Identity};

/// What of `master` is otherwise than of the one on record; empty where nothing is.
pub(super) fn differences(target: &Target, master: Identity, state: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, was: String, is: String| {
        if was != is {
            found.push(format!("{what} was {was} and is {is}"));
        }
    };
    let pid = master.pid;
    if let Ok(exe) = Exe::of(pid) {
        compare("its program", target.exe.path.display().to_string(), exe.path.display().to_string());
    }
    if let (Some(_), Some((name, args))) = (&target.name, options_of(pid)) {
        let line =
            |name: &str, args: &[String]| format!("`{}`", [&[name.to_owned()], args].concat().join(" "));
        // A unit starts it as it wants to.
        let name = if target.unit.is_some() { target.name.clone().unwrap_or_default() } else { name };
        compare(
            "its command line",
            line(target.name.as_deref().unwrap_or_default(), &target.args),
            line(&name, &args),
        );
    }
    if let Ok(now) = Credentials::of(pid) {
        let was = &target.credentials;
        compare("uid", was.uid.to_string(), now.uid.to_string());
        compare("gid", was.gid.to_string(), now.gid.to_string());
        compare("groups", format!("{:?}", was.groups), format!("{:?}", now.groups));
        compare("umask", format!("{:04o}", was.umask), format!("{:04o}", now.umask));
    }
    if let Ok(cwd) = std::fs::read_link(format!("/proc/{pid}/cwd")) {
        compare("working folder", target.cwd.display().to_string(), cwd.display().to_string());
    }
    if let (Some(was), Ok(now)) = (&target.attributes, Attributes::of(pid)) {
        found.extend(was.differences(&now));
        found.extend(outputs(target, was, &now));
        found.extend(cgroup(target, was, &now));
    }
    if target.unit.is_none()
        && let Some(kept) = environment::kept_exactly(state)
        && let Ok(now) = environ::of(pid)
    {
        found.extend(variables(&kept, &environment::variables(&now)));
    }
    found
}

type Variables = [(std::ffi::OsString, std::ffi::OsString)];

/// Names only: values may be secrets.
fn variables(was: &Variables, is: &Variables) -> Option<String> {
    let names = |all: &Variables, other: &Variables| -> Vec<String> {
        let missing = all.iter().filter(|pair| !other.contains(pair));
        missing.map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    };
    let mut changed = names(was, is);
    changed.extend(names(is, was));
    changed.sort();
    changed.dedup();
    (!changed.is_empty()).then(|| format!("environment variables are otherwise: {}", changed.join(", ")))
}

/// Descriptors 1 and 2. Sockets and pipes that a unit's manager makes anew are told apart by their kind alone.
fn outputs(target: &Target, was: &Attributes, now: &Attributes) -> Vec<String> {
    let kind = |link: &str| match link.split_once(":[") {
        Some((kind, _)) if target.unit.is_some() => kind.to_owned(),
        _ if link.is_empty() => "closed".to_owned(),
        _ => link.to_owned(),
    };
    let each = [("stdout", &was.stdout, &now.stdout), ("stderr", &was.stderr, &now.stderr)].into_iter();
    let changed = each.filter(|(_, was, is)| kind(was) != kind(is));
    changed.map(|(what, was, is)| format!("{what} went to {} and goes to {}", kind(was), kind(is))).collect()
}

/// A process that was started by hand in somebody's service comes back in a scope of its own, on purpose.
fn cgroup(target: &Target, was: &Attributes, now: &Attributes) -> Option<String> {
    let managed = |a: &Attributes| {
        let lines = if unit::is_booted() { unit::kept_at(&a.cgroup) } else { None };
        lines.map(str::to_owned).unwrap_or_else(|| a.cgroup.join(" "))
    };
    let (was, is) = (managed(was), managed(now));
    let in_scope = target.unit.is_none() && unit::is_booted() && is.ends_with(".scope");
    (was != is && !in_scope).then(|| format!("control group was {was} and is {is}"))
}

/// The listeners that are gone, or that don't answer as they did.
pub(super) fn listeners(target: &Target, master: Identity) -> Vec<String> {
    let now = Listening::of(master.pid);
    let gone = |what: String| format!("it no longer listens on {what}");
    let was = &target.listening;
    let mut found: Vec<String> = was.tcp.difference(&now.tcp).map(|a| gone(a.to_string())).collect();
    found.extend(was.udp.difference(&now.udp).map(|a| gone(format!("{a} (UDP)"))));
    found.extend(was.unix.difference(&now.unix).map(|p| gone(format!("unix:{}", p.display()))));
    found.extend(silent(target));
    found
}

/// Those that answered, and don't now.
fn silent(target: &Target) -> Vec<String> {
    let asked: Vec<_> = target.answers.iter().filter(|a| a.was != Kind::Nothing).collect();
    let endpoints: Vec<_> = asked.iter().map(|a| a.endpoint.clone()).collect();
    let mut found = Vec::new();
    for (was, (endpoint, is)) in asked.iter().zip(ask_all(&endpoints)) {
        if Kind::of(is) != was.was {
            found.push(format!("{} {is}, and did not before", endpoint.addr));
        }
    }
    found
}
