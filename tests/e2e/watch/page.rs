//! The view as a page, in a real browser beside a real daemon: `make test-pages`. It takes Chromium and axe-core, which
//! are not part of the gate.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use world::agent::{self, Running};
use world::alb::{Alb, Node, Settings};
use world::chromium::Chromium;
use world::daemon::Daemon;
use world::fleet::check;
use world::nginx::Nginx;
use world::place::{self, Place};

const LONG: Duration = Duration::from_secs(60);

/// Remembers the last thing that the daemon told the page.
const SPY: &str = "{ const Real = EventSource; window.EventSource = class extends Real { constructor(url) { super(url); \
    this.addEventListener('cpu', (e) => { window.cpu = JSON.parse(e.data); }); \
    this.addEventListener('status', (e) => { window.told = JSON.parse(e.data); }); window.stream = this; } }; }";

/// What is on the page in the very frame in which it was drawn, and what the daemon had told by then.
const LOOK: &str = "new Promise((done) => stream.addEventListener('status', () => requestAnimationFrame(() => { \
    const text = (id) => document.getElementById(id).textContent; \
    const rows = Object.fromEntries([...document.querySelectorAll('#rows tr')].map((row) => \
        [row.cells[0].textContent, row.cells[2].textContent])); \
    done({ told, cpu, rows, word: text('word'), cause: text('cause'), who: text('who'), title: document.title }); \
    }), { once: true }))";

/// A mark of a kind in a row: `rect`, or `path`, which is a cross.
fn marks(row: &str, kind: &str) -> String {
    format!(
        "([...document.querySelectorAll('#rows tr')].find((row) => row.cells[0].textContent === '{row}')\
         ?.querySelectorAll('{kind}').length ?? 0)"
    )
}

/// A web server that two nodes probe every five seconds, the daemon beside it, and the page.
struct World {
    tab: Chromium,
    daemon: Daemon,
    nodes: Vec<String>,
    _alb: Alb,
    nginx: Nginx,
    place: Place,
}

impl World {
    fn start() -> Self {
        let place = Place::new().unwrap();
        let nginx = Nginx::start(&place, "", "location / { return 200; }").unwrap();
        let conf = format!("[nginx]\nconf = \"{}\"\n[probes]\nexpect = \"5s\"\n", nginx.conf.display());
        agent::configure(&place, &conf).unwrap();
        let daemon = Daemon::start(&place, &[]).unwrap();
        let node = |phase| {
            let source = place::address();
            Node { listen: SocketAddr::new(source.into(), 80), source, phase }
        };
        let nodes = vec![node(Duration::ZERO), node(Duration::from_secs(2))];
        let names = nodes.iter().map(|node| node.source.to_string()).collect();
        let settings = Settings { nodes, ..Settings::new(check(Duration::from_secs(5))) };
        let alb = Alb::start(settings, &[nginx.addr]).unwrap();
        let tab = Chromium::open(&place).unwrap();
        Self { tab, daemon, nodes: names, _alb: alb, nginx, place }
    }

    fn open(&self) {
        self.tab.before_pages(SPY).unwrap();
        self.tab.go(&format!("http://{}/", self.daemon.admin)).unwrap();
    }

    fn verb(&self, args: &str) -> Running {
        let conf = self.nginx.conf.to_string_lossy().into_owned();
        let mut all: Vec<&str> = args.split_ascii_whitespace().collect();
        if all.first() == Some(&"fail") {
            all.extend(["--json", "--conf", &conf]);
        }
        Running::start(&self.place, &all).unwrap()
    }

    /// Holds every figure on the page against what the daemon has said.
    fn compare(&self) -> Value {
        let seen = self.tab.eval(LOOK).unwrap();
        let (told, rows) = (&seen["told"], &seen["rows"]);
        let healthy = told["health"]["status"] == "pass";
        let word = if healthy { "HEALTHY" } else { "UNHEALTHY" };
        assert_eq!(seen["word"], word, "{seen}");
        assert_eq!(seen["title"], format!("{word} · agent watch"));
        let failing = told["health"]["checks"].as_array().unwrap().iter();
        for check in failing.filter(|check| check["status"] == "fail") {
            let cause = format!("{}: {}", check["name"].as_str().unwrap(), check["detail"].as_str().unwrap());
            assert!(seen["cause"].as_str().unwrap().contains(cause.split(" in ").next().unwrap()), "{seen}");
        }
        let starts = |row: &str, text: &str| {
            assert!(rows[row].as_str().is_some_and(|words| words.starts_with(text)), "{row}: {text}: {seen}");
        };
        starts("CPU, host", &format!("{:.0} % busy", seen["cpu"]["busy_pct"].as_f64().unwrap()));
        starts("/health says", if healthy { "200" } else { "503" });
        starts("nginx check", if told["nginx"]["up"] == true { "answers" } else { "fails" });
        for node in told["probes"]["nodes"].as_array().unwrap() {
            let words = match (node["missed"].as_u64().unwrap(), node["interval_p50_ms"].as_f64()) {
                (0, Some(ms)) => format!("every {:.2} s", ms / 1000.0),
                (0, None) => format!("{} probes", node["probes"]),
                (missed, _) => format!("{missed} missing"),
            };
            starts(node["node"].as_str().unwrap(), &words);
        }
        match told["fault"]["remaining_ms"].as_f64() {
            Some(ms) => starts("fault", &format!("stop, {:.0} s left", (ms / 1000.0 + 0.5).floor())),
            None => starts("fault", "none"),
        }
        match told["stress"][0]["remaining_ms"].as_u64() {
            Some(ms) => starts(
                "stress",
                &format!("{} %, {}:{:02} left", told["stress"][0]["load_pct"], ms / 60_000, ms / 1000 % 60),
            ),
            None => starts("stress", "none"),
        }
        seen
    }

    /// Is the page readable, at every width, light and dark?
    fn is_readable(&self) {
        let axe = std::fs::read_to_string(std::env::var("AXE_JS").expect("AXE_JS names axe.min.js")).unwrap();
        self.tab.eval(&format!("{axe}; 0")).unwrap();
        for width in [390, 768, 1280] {
            for dark in [false, true] {
                self.tab.look(width, dark).unwrap();
                self.tab.wait(&format!("innerWidth === {width} && matchMedia('(prefers-color-scheme: dark)').matches === {dark}"))
                    .unwrap();
                let found = self.tab.eval(
                    "axe.run().then((found) => [found.violations.map((one) => one.id + ': ' + \
                     one.nodes.map((node) => node.target + ' ' + node.html).join('; ')), \
                     document.documentElement.scrollWidth <= innerWidth])",
                );
                assert_eq!(found.unwrap(), json!([[], true]), "{width} {dark}");
            }
        }
    }
}

#[test]
#[ignore = "make test-pages: it takes Chromium and axe-core"]
fn the_page_says_what_the_daemon_says_through_load_fault_reload_and_loss() {
    let mut world = World::start();
    world.open();
    world.tab.wait("document.getElementById('word').textContent === 'HEALTHY'").unwrap();
    for node in &world.nodes {
        world.tab.wait(&format!("{} > 0", marks(node, "rect"))).unwrap();
    }
    let seen = world.compare();
    assert_eq!(world.daemon.status().unwrap()["health"]["status"], seen["told"]["health"]["status"]);
    let stress = world.verb("stress --cpu 1 --load 2 --secs 3000");
    world.tab.wait(&format!("{} > 0", marks("stress", "rect"))).unwrap();
    world.compare();
    // Of a node that has no rhythm yet nobody knows when the next probe is due.
    world.tab.wait("told.probes.nodes.filter((node) => node.probes >= 5).length === 2").unwrap();
    let mut fault = world.verb("fail --mode stop --secs 3000 --force");
    world.tab.wait("document.getElementById('word').textContent === 'UNHEALTHY'").unwrap();
    world
        .tab
        .wait(&format!("{} > 0 && {} > 0", marks("fault", "rect"), marks("/health says", "path")))
        .unwrap();
    for node in &world.nodes {
        // A probe that doesn't come is a low line.
        world.tab.wait(&marks(node, "rect[height=\"3\"]").replace("?? 0)", "?? 0) > 0")).unwrap();
    }
    let seen = world.compare();
    let status = world.daemon.status().unwrap();
    assert_eq!((&status["health"]["status"], &status["fault"]["mode"]), (&"fail".into(), &"stop".into()));
    assert_eq!(seen["told"]["fault"]["mode"], "stop");
    world.is_readable();
    world.verb("recover").wait(LONG).unwrap();
    fault.wait(LONG).unwrap();
    world.tab.wait("document.getElementById('word').textContent === 'HEALTHY'").unwrap();
    world.compare();
    stress.end(Signal::SIGTERM).unwrap();
    assert_eq!(world.tab.complaints().unwrap(), Vec::<String>::new());

    // What was seen is there again after a reload, and so is what happened.
    let told = "['503', 'stop', 'begins'].every((part) => document.getElementById('happened').textContent.includes(part))";
    world.tab.wait(told).unwrap();
    world.open();
    let past = format!(
        "{} > 0 && {} > 0 && {} > 0 && {told}",
        marks("fault", "rect"),
        marks("/health says", "path"),
        marks("stress", "rect")
    );
    world.tab.wait(&past).unwrap();
    world.compare();
    assert_eq!(world.tab.complaints().unwrap(), Vec::<String>::new());

    // A lost connection is said, and mended; what was seen stays.
    world.daemon.process.signal(Signal::SIGKILL).unwrap();
    world.tab.wait("!document.getElementById('lost').hidden").unwrap();
    world.daemon.process.wait(LONG).unwrap();
    world.daemon = Daemon::start(&world.place, &[]).unwrap();
    world.tab.wait("document.getElementById('lost').hidden").unwrap();
    world.tab.wait("document.getElementById('happened').textContent.includes('answers again')").unwrap();
    world.tab.wait(&past).unwrap();
    world.compare();
}

/// The daemon's events, as fast as they can be drawn: each second another status, each ten minutes another node, each
/// minute another verdict.
const FAST: &str = "window.EventSource = class extends EventTarget { constructor() { super(); window.stream = this; } }; \
    window.hours = async (from, to) => { \
        const status = await (await fetch('/status')).json(); \
        window.first ??= Date.parse(status.at); \
        const tell = (name, data) => stream.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) })); \
        if (!from) tell('history', { nodes: [], cells: [] }); \
        for (let second = from * 3600; second < to * 3600; second += 1) { \
            status.at = new Date(first + 1000 * second).toISOString(); \
            status.health.status = second % 120 < 60 ? 'pass' : 'fail'; \
            const node = `10.0.${Math.floor(second / 600)}.1`; \
            status.probes.nodes = [{ node, probes: second, missed: 0, interval_p50_ms: 5000 }]; \
            tell('cpu', { busy_pct: second % 100, steal_pct: 0 }); \
            tell('status', status); \
            if (second % 300 === 0) await new Promise(requestAnimationFrame); \
        } \
        await new Promise(requestAnimationFrame); \
        return document.getElementsByTagName('*').length; };";

#[test]
#[ignore = "make test-pages: it takes Chromium and axe-core"]
fn eight_hours_of_events_do_not_grow_the_page() {
    let world = World::start();
    world.tab.before_pages(FAST).unwrap();
    world.tab.go(&format!("http://{}/", world.daemon.admin)).unwrap();
    let heap = || {
        world.tab.call("HeapProfiler.collectGarbage", &json!({})).unwrap();
        world.tab.call("Runtime.getHeapUsage", &json!({})).unwrap()["usedSize"].as_f64().unwrap()
    };
    // All of an hour is shown.
    let elements =
        world.tab.eval("for (let n = 0; n < 9; n += 1) document.getElementById('more').click(); hours(0, 2)");
    let (elements, before) = (elements.unwrap().as_u64().unwrap(), heap());
    let after = world.tab.eval("hours(2, 8)").unwrap().as_u64().unwrap();
    let grown = heap() - before;
    assert!(after < elements + 100, "{elements} elements after two hours, {after} after eight");
    assert!(grown < 512.0 * 1024.0, "{grown} bytes more after eight hours than after two");
    // The 48th address of the load balancer has its marks.
    let last = world.tab.eval(&marks("10.0.47.1", "rect")).unwrap().as_u64().unwrap();
    assert!(last > 100, "{last} marks");
}
