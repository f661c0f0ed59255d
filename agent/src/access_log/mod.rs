//! nginx's access logs: which there are, in which formats, and what their lines say.
//!
//! - [`locate`]: which log, in which format. [`format`]: a `log_format` compiled, a line read by it.
//! - [`recent`]: where in a log the last few minutes begin.
//! - [`scan`]: blocks of lines become probes and a measure of the other traffic.

pub mod format;
pub mod locate;
pub mod recent;
pub mod scan;
