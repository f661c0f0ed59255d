//! Everything at a glance: one picture with one axis of time, on which a cause stands above its effect.
//!
//! - `facts`: what the daemon says now. `clients`: what clients get through the load balancer. `model`: both, the last
//!   hour, and what happened in it. `minutes`: the grid that CloudWatch sees. `traffic`: requests a second. `standing`:
//!   what a node makes of its probes. `coming`: what should happen, by the models of drills and of stress.
//! - `view`: the model as a `picture`, lines of text with tones. `frame`, `panels`, `rows`: its parts. `svg`: the picture as
//!   a file.
//! - `terminal`, `guard`: the picture on a terminal that is whole again whatever ends it. Nothing here changes anything.

pub mod clients;
pub mod coming;
pub mod daemon;
pub mod facts;
pub mod frame;
pub mod guard;
pub mod minutes;
pub mod model;
pub mod panels;
pub mod picture;
pub mod rows;
pub mod standing;
pub mod svg;
pub mod terminal;
pub mod traffic;
pub mod view;
