//! The world itself: what the other tests stand on.

use std::time::Duration;

use world::nginx::Nginx;
use world::place::{Place, wait_until};

#[test]
fn an_nginx_starts_answers_stops_and_leaves_nothing() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200 hello; }").unwrap();
    assert!(nginx.workers().len() == 2 && nginx.answers());
    nginx.stop().unwrap();
    nginx.boot().unwrap();
    let master = nginx.master().unwrap();
    drop(place);
    let gone = || !std::path::Path::new(&format!("/proc/{master}")).exists();
    assert!(wait_until(Duration::from_secs(10), gone), "it ends, and init reaps it");
    assert!(!nginx.answers());
}
