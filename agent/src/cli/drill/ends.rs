//! The ends of `agent drill`: what is checked before, and what its exit codes mean.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;

use crate::cli::told::failure;
use crate::cli::{Exit, Failure};
use crate::drill::analysis::report::Report;
use crate::drill::analysis::verdict::{Answer, secs};
use crate::drill::client::samples;
use crate::drill::events::{DrillEvent, Last, Outcome};
use crate::drill::schedule::run::DrillError;
use crate::sys::file;

/// Requests that wait for a target that hangs each hold a descriptor; where so many aren't permitted, those beyond are
/// counted as unreachable.
pub(super) const DESCRIPTORS: u64 = 65_536;

/// Left free where requests are kept, in bytes.
const SPARE: u64 = 64 << 20;

/// The exit code: a fault that isn't over counts more than a signal, that more than the other answers.
pub(super) fn exit(result: &Report) -> Exit {
    let answers = [
        result.hypothesis.answer,
        result.cleanup.as_ref().map_or(Answer::Yes, |verdict| verdict.answer),
        result.safety.answer,
        result.regression.as_ref().map_or(Answer::Yes, |verdict| verdict.answer),
    ];
    match result.signal {
        _ if answers[1] == Answer::No => Exit::No,
        Some(signal) => Exit::Signal(signal),
        None if answers.contains(&Answer::No) => Exit::No,
        None if answers.contains(&Answer::Unknown) => Exit::CannotTell,
        None => Exit::Done,
    }
}

/// Why there is no result, with its exit code.
pub(super) fn refused(error: DrillError) -> Failure {
    match error {
        DrillError::Refused(_) => Failure::new(Exit::Refused, error),
        DrillError::Fault(e) => failure(e),
        DrillError::System { .. } => Failure::new(Exit::CannotTell, error),
    }
}

/// Whether a report is to be Markdown, for a pull request.
pub(super) fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "md")
}

/// Whether a report could be written there: known before anything is made to fail.
pub(super) fn can_be_written(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    anyhow::ensure!(!path.is_dir(), "--report {}: a folder", path.display());
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(folder, access)
        .with_context(|| format!("--report {}: cannot write to {}", path.display(), folder.display()))
}

/// Whether the requests of a drill find room in the file where they are kept: known before anything is made to fail.
pub(super) fn has_room(rps: u32, addresses: usize, lasts: Duration) -> anyhow::Result<()> {
    // How many addresses a name has, and gets, isn't known yet.
    let requests = u64::from(rps) * addresses.max(2) as u64 * lasts.as_secs();
    let wanted = samples::bytes(requests);
    if wanted == 0 {
        return Ok(());
    }
    let folder = samples::folder();
    let system = rustix::fs::statvfs(&folder).with_context(|| {
        format!("cannot keep {requests} requests in {} (TMPDIR names another)", folder.display())
    })?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    anyhow::ensure!(
        wanted.saturating_add(SPARE) <= free,
        "--rps {rps} for {} would be {requests} requests, and {} MB for them are not free in {}: lower --rps, or name \
         another folder in TMPDIR",
        secs(lasts),
        wanted >> 20,
        folder.display()
    );
    Ok(())
}

/// Writes the page where one is wanted: its path, if it is there now.
pub(super) fn write(
    path: Option<&Path>,
    page: impl Fn(&Path) -> String,
) -> (Option<&Path>, Result<(), Failure>) {
    let Some(path) = path else { return (None, Ok(())) };
    match file::replace(path, page(path).as_bytes(), 0o644) {
        Ok(()) => (Some(path), Ok(())),
        Err(e) => (None, Err(anyhow!(e).context(format!("cannot write {}", path.display())).into())),
    }
}

/// The last line of the JSON.
pub(super) fn last_line<'a>(result: Outcome<'a>, page: Option<&Path>) -> DrillEvent<'a> {
    DrillEvent::Result(Last { result, report: page.map(|path| path.display().to_string()) })
}

/// The last line as it is kept, embedded and compared.
pub(super) fn line(result: Outcome<'_>) -> Value {
    serde_json::to_value(last_line(result, None)).unwrap_or_default()
}

/// A percentage from 0 to 100.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let pct: Option<f64> = text.trim_end_matches('%').parse().ok();
    pct.filter(|pct| (0.0..=100.0).contains(pct)).ok_or_else(|| "write a percentage, such as 30".to_owned())
}
