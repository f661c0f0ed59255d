//! Whether nginx could be brought back, tried before anything is touched: nginx tests its own configuration as it would
//! be started, and what would be otherwise afterwards is named.

use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use crate::fault::record::{Mode, Target};
use crate::fault::recovery::{environment, start};
use crate::nginx::master::Master;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rehearsal {
    /// Whether nginx can be brought back. A mode that leaves nginx running has nothing to bring back.
    pub can_be_brought_back: bool,
    /// Why it can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What would be otherwise than it is, and what else to know; a line each.
    pub findings: Vec<String>,
}

/// Rehearses the return of `target`, whose environment is `environment`.
pub(super) fn rehearse(
    mode: Mode,
    master: &Master,
    target: &Target,
    environment: Option<&[u8]>,
) -> Rehearsal {
    let mut findings = Vec::new();
    let mut because = Vec::new();
    let on_disk = std::fs::metadata(&target.exe.path);
    if on_disk.is_ok_and(|m| (m.dev(), m.ino()) != (target.exe.dev, target.exe.ino)) {
        findings.push(format!(
            "{} is another file than the one that runs: it was replaced, and the new one would be started",
            target.exe.path.display()
        ));
    }
    if mode.ends_nginx() {
        let variables = environment::for_a_start(environment);
        match start::rehearse(target, &variables) {
            Ok(lacking) => findings
                .extend(lacking.into_iter().map(|what| format!("it would come back without its {what}"))),
            Err(why) => because.push(format!("`nginx -t` says: {why}")),
        }
        findings.extend(start::surroundings(target));
    } else if let Some(why) = &master.unread {
        findings
            .push(format!("its configuration can't be read any more ({why}); this mode needs no restart"));
    }
    let conf = target.conf.display();
    for new in &master.drift.new {
        findings
            .push(format!("{conf} was edited since nginx read it: after a restart it listens on {new} too"));
    }
    for lost in &master.drift.lost {
        let text =
            format!("{conf} was edited since nginx read it: after a restart it no longer listens on {lost}");
        if mode.ends_nginx() { because.push(text) } else { findings.push(text) }
    }
    if !target.dependents.is_empty() {
        findings.push(format!(
            "systemd stops {} with {}: they are started again",
            target.dependents.join(", "),
            target.unit.as_deref().unwrap_or_default()
        ));
    }
    let because = (!because.is_empty()).then(|| because.join("; "));
    Rehearsal { can_be_brought_back: because.is_none(), because, findings }
}
