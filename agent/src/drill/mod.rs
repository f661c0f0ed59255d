//! What clients lose when a target fails, measured through the load balancer, beside what they should lose.
//!
//! - `target`, `names`: the URL and the addresses of its name. `pace`: when requests are due. `client`, `tls`: one
//!   request. `measure`: all of them, on their schedules. `sample`: what is kept of each.
//! - `breaker`: the fault. `signals`, `guard`: what ends it early. `plan`, `run`: baseline → fault → hold → readmission → after.
//! - `predict`: the bounds, derived. `phase`, `window`, `latency`, `strip`: figures. `rhythm`: the probes that this
//!   target saw. `verdict`: three answers. `report`: all of it together; `page`: the same as one page of HTML.
//! - `about`: what each tells of itself. `scale`: the instances that come and go under load; `load`: that load.
//!
//! Pure: `target`, `pace`, `sample`, `guard`, `predict`, `phase`, `window`, `latency`, `strip`, `verdict`, `report`, `page`, `scale`.

pub mod about;
pub mod breaker;
pub mod client;
pub mod guard;
pub mod latency;
pub mod load;
pub mod measure;
pub mod names;
pub mod pace;
pub mod page;
pub mod phase;
pub mod plan;
pub mod predict;
pub mod report;
pub mod rhythm;
pub mod run;
pub mod sample;
pub mod scale;
pub mod signals;
pub mod strip;
pub mod target;
pub mod tls;
pub mod verdict;
pub mod window;
