//! What a drill comes to. Pure but `rhythm`.
//!
//! - `predict`, `group`: the bounds, derived. `fits`: the settings that would have fitted. `window`, `latency`, `strip`: figures. `rhythm`, `modal`: the probes that this target saw.
//!   `verdict`, `evidence`: the answers. `about`: what each drill tells of itself. `report`: all of it together; `page`: the same as
//!   one page of HTML. `scale`: the instances that come and go under load.
//!   `drain`: how long requests are still sent.

pub mod about;
pub mod drain;
pub mod evidence;
pub mod fits;
pub mod group;
pub mod latency;
pub mod modal;
pub mod page;
pub mod predict;
pub mod report;
pub mod rhythm;
pub mod scale;
pub mod strip;
pub mod verdict;
pub mod window;
