//! The world itself: what the other tests stand on.

use std::time::Duration;

use world::nginx::Nginx;
use world::place::{Place, wait_until};

#[test]
fn an_nginx_starts_answers_stops_and_leaves_nothing() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200 hello; }").unwrap();
    // The first worker may answer before the second is forked.
    assert!(wait_until(Duration::from_secs(5), || nginx.workers().len() == 2) && nginx.answers());
    nginx.stop().unwrap();
    nginx.boot().unwrap();
    let master = nginx.master().unwrap();
    drop(place);
    // Killed it is; its adoptive parent takes a moment to notice.
    let proc = format!("/proc/{master}");
    assert!(wait_until(Duration::from_secs(5), || !std::path::Path::new(&proc).exists()));
    assert!(!nginx.answers());
}
