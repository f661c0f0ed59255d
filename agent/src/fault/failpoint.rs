//! Places where a test lets the process die as if by SIGKILL. In release builds they are nothing.

/// Dies here when `AGENT_FAILPOINT` names this step.
#[cfg(debug_assertions)]
pub(super) fn failpoint(step: &str) {
    if std::env::var_os("AGENT_FAILPOINT").is_some_and(|named| named == step) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(super) fn failpoint(_step: &str) {}
