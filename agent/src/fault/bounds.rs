//! The bounds of a fault; no setting moves them.

use std::time::Duration;

/// The longest fault that needs no `--force`.
pub const MAX: Duration = Duration::from_secs(300);
/// The longest of all.
pub const MAX_FORCED: Duration = Duration::from_secs(3600);
