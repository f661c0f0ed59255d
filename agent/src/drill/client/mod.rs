//! Requests as clients of the load balancer send them.
//!
//! - `target`, `names`: the URL and the addresses of its name. `request`, `tls`: one request. `measure`: all of them, on
//!   their schedules. `sample`: what is kept of each. `samples`: where all of them are.

pub mod measure;
pub mod names;
pub mod request;
pub mod sample;
pub mod samples;
pub mod target;
pub mod tls;
