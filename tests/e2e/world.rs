//! The world itself: what the other tests stand on.

use world::nginx::Nginx;
use world::place::Place;

#[test]
fn an_nginx_starts_answers_stops_and_leaves_nothing() {
    let place = Place::new().unwrap();
    let nginx = Nginx::start(&place, "", "location / { return 200 hello; }").unwrap();
    assert!(nginx.workers().len() == 2 && nginx.answers());
    nginx.stop().unwrap();
    nginx.boot().unwrap();
    let master = nginx.master().unwrap();
    drop(place);
    assert!(!std::path::Path::new(&format!("/proc/{master}")).exists());
    assert!(!nginx.answers());
}
