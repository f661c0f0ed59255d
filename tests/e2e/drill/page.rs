//! The report as a page: what a browser shows is what the JSON says, whatever the network put into it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use world::fleet::{Fleet, check};
use world::place::Place;

use super::{finish, result};
use crate::fault::skipped;

/// The page as a browser has built it, and what it wrote to the browser's console; `None` where there is no Chromium.
pub(super) fn browse(place: &Place, page: &Path) -> Option<(String, String)> {
    let profile = place.join("chromium");
    let mut chromium = Command::new("timeout");
    chromium.args([
        "60",
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]);
    chromium.args([
        "--no-first-run",
        "--disable-background-networking",
        "--enable-logging=stderr",
        "--dump-dom",
    ]);
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.env("HOME", place.path()).arg(format!("file://{}", page.display()));
    if !Command::new("chromium").arg("--version").output().is_ok_and(|o| o.status.success()) {
        skipped("chromium is missing");
        return None;
    }
    let output = chromium.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // The browser's own pages write to it too.
    let ours = |line: &&str| line.contains("CONSOLE") && !line.contains("source: chrome://");
    let console: Vec<String> = text(&output.stderr).lines().filter(ours).map(str::to_owned).collect();
    Some((text(&output.stdout), console.join("\n")))
}

/// The text of the first element with this key.
pub(super) fn shown(dom: &str, key: &str) -> String {
    let at = dom.find(&format!("data-key=\"{key}\"")).unwrap_or_else(|| panic!("no {key} on the page"));
    dom[at..].split_once('>').unwrap().1.split('<').next().unwrap().to_owned()
}

/// The data that the page carries.
pub(super) fn carried(text: &str) -> Value {
    let data = text.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(data).unwrap()
}

#[test]
fn the_figures_on_the_page_are_those_of_the_json() {
    let fleet = Fleet::start(check(Duration::from_secs(1)), 2, false).unwrap();
    let page = fleet.place.join("report.html");
    let checks = "--interval 1s --timeout 500ms --healthy 2 --unhealthy 2";
    let args = format!("--mode stop --secs 4 --rps 40 {checks} --report {}", page.display());
    let (_, events, stderr) = finish(fleet.failover(&args));
    let last = result(&events);
    let text = std::fs::read_to_string(&page).unwrap();
    let data = carried(&text);
    assert_eq!(data["result"]["outage_ms"], last["outage_ms"], "{stderr}");
    assert_eq!(data["requests"]["rows"].as_array().unwrap().len() as u64, last["requests"].as_u64().unwrap());
    let Some((dom, console)) = browse(&fleet.place, &page) else { return };
    assert_eq!(console, "");
    let secs = |value: &Value| format!("{:.3} s", value.as_f64().unwrap() / 1e3);
    assert_eq!(shown(&dom, "outage_ms"), secs(&last["outage_ms"]));
    assert_eq!(shown(&dom, "readmitted_after_ms"), secs(&last["readmitted_after_ms"]));
    assert_eq!(shown(&dom, "node_outage_ms"), secs(&last["nodes"][0]["outage_ms"]));
    assert_eq!(shown(&dom, "errors"), last["errors"].to_string());
    assert_eq!(shown(&dom, "rows"), format!("{} requests.", last["requests"]));
    for question in ["hypothesis", "cleanup", "safety"] {
        assert_eq!(shown(&dom, question), last[question]["answer"].as_str().unwrap());
    }
}

#[test]
fn what_comes_off_the_network_is_text_on_the_page() {
    let fleet = Fleet::start(check(Duration::from_secs(1)), 1, false).unwrap();
    let evil = Place::new().unwrap();
    let server =
        "location / { add_header X-Instance-Id '</script><script>document.title=1</script>'; return 200; }";
    let nginx = world::nginx::Nginx::start(&evil, "", server).unwrap();
    let page = fleet.place.join("evil.html");
    let url = format!("http://{}/?</script><img%20onerror=x>", nginx.addr);
    let path = page.to_string_lossy().into_owned();
    let args = [
        "drill",
        "failover",
        "--observe",
        "--json",
        "--secs",
        "1",
        "--baseline",
        "1s",
        "--url",
        &url,
        "--report",
        &path,
    ];
    let (_, events, stderr) = finish(world::agent::command(&fleet.place, &args));
    let last = events.last().unwrap();
    if last["event"] == "error" {
        // Such an URL is no URL: then only the header is hostile.
        let url = format!("http://{}/", nginx.addr);
        let args = args.map(|arg| if arg.starts_with("http") { url.as_str() } else { arg });
        let (_, events, _) = finish(world::agent::command(&fleet.place, &args));
        assert_eq!(events.last().unwrap()["event"], "result", "{stderr}");
    }
    let text = std::fs::read_to_string(&page).unwrap();
    assert_eq!(text.matches("</script>").count(), 2, "the template's own");
    assert_eq!(
        carried(&text)["result"]["instances"][0]["instance"],
        "</script><script>document.title=1</script>"
    );
    let Some((dom, console)) = browse(&evil, &page) else { return };
    assert_eq!(console, "");
    assert!(dom.contains("<title>Drill: http://"), "the hostile script ran, or ours did not");
}

#[test]
fn what_comes_off_the_network_controls_no_terminal() {
    let place = Place::new().unwrap();
    // What begins a control sequence, in bytes that a header may have: U+009B is as good as escape and bracket.
    let server = "location / { add_header X-Instance-Id 'i-\t\u{9b}31m\u{202e}x'; return 200; }";
    let nginx = world::nginx::Nginx::start(&place, "", server).unwrap();
    let url = format!("http://{}/", nginx.addr);
    let args = ["drill", "failover", "--observe", "--secs", "1", "--baseline", "1s", "--url", &url];
    let output = world::agent::run(&place, &args).unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(text.contains("i-___31m___x"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
}
