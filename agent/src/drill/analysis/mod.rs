//! What a drill comes to. Pure but `rhythm`.
//!
//! - `predict`: the bounds, derived. `window`, `latency`, `strip`: figures. `rhythm`: the probes that this target saw.
//!   `verdict`: the answers. `about`: what each drill tells of itself. `report`: all of it together; `page`: the same as
//!   one page of HTML. `scale`: the instances that come and go under load.

pub mod about;
pub mod latency;
pub mod page;
pub mod predict;
pub mod report;
pub mod rhythm;
pub mod scale;
pub mod strip;
pub mod verdict;
pub mod window;
