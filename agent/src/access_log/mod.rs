//! nginx's access logs: which there are, in which formats, and what their lines say.
//!
//! - [`locate`]: which logs, in which formats; `running`: by which configurations. [`format`]: a `log_format` compiled,
//!   a line read by it.
//! - [`logs`]: all of them followed together. [`recent`]: where in a log the last few minutes begin.
//! - [`scan`]: blocks of lines become probes and a measure of the other traffic. [`outsiders`]: who else bears the load
//!   balancer's name, [`others`]: who else checks health. [`unread`]: a line that couldn't be read, and where reading stopped.
//! - [`balancer`]: the load balancer's own log of the same probes.

pub mod balancer;
pub mod format;
pub mod locate;
pub mod logs;
pub mod others;
pub mod outsiders;
pub mod recent;
mod running;
pub mod scan;
pub mod unread;
