//! Earlier drills are kept, listed, shown and compared with.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use world::agent;
use world::nginx::Nginx;
use world::place::Place;

use super::{all, finish, result};

struct World {
    place: Place,
    nginx: Nginx,
}

impl World {
    fn new() -> Self {
        let place = Place::new().unwrap();
        let nginx =
            Nginx::start(&place, "", "location / { add_header X-Instance-Id i-a; return 200; }").unwrap();
        std::fs::create_dir_all(place.join("log")).unwrap();
        Self { place, nginx }
    }

    fn run(&self, args: &str) -> (i32, Vec<Value>, String) {
        finish(agent::command(&self.place, &args.split_ascii_whitespace().collect::<Vec<_>>()))
    }

    fn observe(&self, more: &str) -> (i32, Vec<Value>, String) {
        let url = format!("http://{}/", self.nginx.addr);
        self.run(&format!("drill failover --json --observe --secs 1 --before 1s --url {url} {more}"))
    }
}

#[test]
fn every_drill_is_kept_listed_and_shown() {
    let world = World::new();
    let (code, events, _) = world.run("drill list --json");
    assert_eq!((code, &result(&events)["drills"]), (0, &0.into()));
    let ids: Vec<String> =
        (0..2).map(|_| result(&world.observe("").1)["id"].as_str().unwrap().to_owned()).collect();
    let (code, events, stderr) = world.run("drill list --json");
    let listed: Vec<&str> = all(&events, "drill").iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((code, listed), (0, ids.iter().map(String::as_str).collect()), "{stderr}");
    let (code, events, _) = world.run(&format!("drill show --json {}", ids[0]));
    assert_eq!((code, &result(&events)["id"]), (0, &ids[0].as_str().into()));
    let (code, events, _) = world.run("drill show --json last");
    assert_eq!((code, &result(&events)["id"]), (0, &ids[1].as_str().into()));
    assert_eq!(world.run("drill show 1999").0, 2);
}

#[test]
fn a_drill_that_is_worse_than_an_earlier_one_says_so() {
    let world = World::new();
    let (_, events, _) = world.observe("");
    let mut earlier = result(&events).clone();
    let file = world.place.join("earlier.json");
    std::fs::write(&file, earlier.to_string()).unwrap();
    let same = format!("--baseline {} --fail-on-regression", file.display());
    let (_, events, stderr) = world.observe(&same);
    let last = result(&events);
    assert!(!last["comparison"]["items"].as_array().unwrap().is_empty(), "{stderr} {last:#}");
    assert!(last["regression"]["answer"].is_string(), "{last:#}");
    earlier["safety"]["answer"] = "yes".into();
    std::fs::write(&file, format!("{{\"event\":\"start\"}}\n{earlier}\n")).unwrap();
    world.nginx.stop().unwrap();
    let (code, events, stderr) = world.observe(&format!("{same} --force"));
    let last = result(&events);
    let item =
        last["comparison"]["items"].as_array().unwrap().iter().find(|item| item["what"] == "safety").unwrap();
    assert_eq!((code, item["regressed"].as_bool()), (1, Some(true)), "{stderr} {last:#}");
    assert_eq!(last["regression"]["answer"], "no");
    for wrong in ["--baseline /no/such/file", "--fail-on-regression", "--baseline 20991231"] {
        assert_eq!(world.observe(wrong).0, 2, "{wrong}");
    }
}

/// A target that takes 30 ms for each answer.
fn slow() -> (Place, String) {
    let place = Place::new().unwrap();
    let listener = TcpListener::bind((place.ip, 80)).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {
                    std::thread::sleep(Duration::from_millis(30)); // what is to be measured
                    let answer = "HTTP/1.1 200 OK\r\nX-Instance-Id: i-a\r\nContent-Length: 0\r\n\r\n";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let url = format!("http://{}/", place.ip);
    (place, url)
}

#[test]
fn only_a_regression_makes_a_drill_that_went_well_fail_and_only_where_that_is_asked_for() {
    let (place, url) = slow();
    std::fs::create_dir_all(place.join("log")).unwrap();
    let observe = |more: &[&str]| {
        let args = [
            "drill",
            "failover",
            "--json",
            "--observe",
            "--mode",
            "unhealthy",
            "--secs",
            "1",
            "--before",
            "1s",
        ];
        finish(agent::command(&place, &[&args[..], &["--url", &url], more].concat()))
    };
    let (code, events, stderr) = observe(&[]);
    let earlier = result(&events).clone();
    assert_eq!(code, 0, "{stderr} {earlier:#}");
    let path = place.join("earlier.json");
    let file = path.to_str().unwrap();
    // Then it was quick, or far slower than now.
    for (then_ms, asked, wanted) in [(1.0, false, 0), (1.0, true, 1), (60_000.0, true, 0)] {
        let mut earlier = earlier.clone();
        for phase in earlier["phases"].as_array_mut().unwrap() {
            (phase["p50_ms"], phase["p99_ms"]) = (then_ms.into(), then_ms.into());
        }
        std::fs::write(&path, earlier.to_string()).unwrap();
        let more: &[&str] = if asked { &["--fail-on-regression"] } else { &[] };
        let (code, events, stderr) = observe(&[&["--baseline", file], more].concat());
        let last = result(&events);
        assert_eq!(code, wanted, "{then_ms} {asked}: {stderr} {last:#}");
        assert_eq!(
            (&last["hypothesis"]["answer"], &last["safety"]["answer"]),
            (&"yes".into(), &"yes".into())
        );
        let said = if wanted == 1 { "no" } else { "yes" };
        assert_eq!(last["regression"]["answer"].as_str(), asked.then_some(said), "{last:#}");
        assert_eq!(last["comparison"]["regressions"].as_u64().unwrap() > 0, then_ms < 2.0, "{last:#}");
    }
}

#[test]
fn the_report_for_a_pull_request_is_markdown() {
    let world = World::new();
    let path = world.place.join("report.md");
    let (_, events, stderr) = world.observe(&format!("--report {}", path.display()));
    let text = std::fs::read_to_string(&path).unwrap();
    let last = result(&events);
    assert!(text.starts_with("## Drill: observed"), "{stderr} {text}");
    assert!(text.contains(&format!("| requests | {} |", last["requests"])), "{text}");
    assert!(text.contains("| Safe? | **yes** |"), "{text}");
}
