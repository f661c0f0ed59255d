//! What a drill comes to. Pure but `rhythm` and `history`.
//!
//! - `predict`, `group`: the bounds, derived. `fits`: the settings that would have fitted. `window`, `latency`, `strip`: figures. `rhythm`, `modal`: the probes that this target saw.
//!   `verdict`, `evidence`: the answers. `about`: what each drill tells of itself. `report`: all of it together; `page`: the same as
//!   one page of HTML. `scale`: the instances that come and go under load.
//!   `drain`: how long requests are still sent. `control`: the other instances. `compare`, `history`: earlier drills.
//!   `markdown`: for a pull request. `steps`: the causes in a drill of scaling.

pub mod about;
pub mod compare;
pub mod control;
pub mod drain;
pub mod evidence;
pub mod fits;
pub mod group;
pub mod history;
pub mod latency;
pub mod markdown;
pub mod modal;
pub mod page;
pub mod predict;
pub mod report;
pub mod rhythm;
pub mod scale;
pub mod steps;
pub mod strip;
pub mod verdict;
pub mod window;
