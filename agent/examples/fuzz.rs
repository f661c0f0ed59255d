//! Random and mutated inputs for the parsers of hostile text, for so many seconds: `fuzz [SECS] [SEED]`. An input whose
//! outcome has a new shape is kept and mutated further. A panic, a broken promise or memory that grows ends it with
//! exit code 1, and the input.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a tool of ours, no part of the agent

use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use asg_agent::access_log::format::{COMBINED, Format, Line, MAIN, RECOMMENDED, unwrap_json};
use asg_agent::access_log::scan::Scanner;
use asg_agent::nginx::conf::{Bounds, Conf, ConfError};
use asg_agent::stress::curve::Curve;

const JSON: &str = r#"escape=json '{"t":"$time_iso8601","ms":$msec,"a":"$remote_addr","q":"$request","s":$status,"u":"$http_user_agent","x":"$http_x_forwarded_for"}'"#;
const BARE: &str = "$msec|$remote_addr:$remote_port|$http_user_agent|${request}|$status";

const LINES: [&[u8]; 5] = [
    br#"172.31.5.17 - - [14/Nov/2023:22:13:20 +0000] "GET /health HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0""#,
    br#"10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0" "-""#,
    br#"8.8.8.8 - a\x22 [14/Nov/2023:22:13:20 -0130] "GET / HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0" 1700000000.123 ::ffff:10.0.0.1 "-" "x""#,
    br#"{"t":"2023-11-14T22:13:20+00:00","ms":1700000000.123,"a":"fd00::1","q":"GET /\" HTTP/1.1","s":200,"u":"ELB-HealthChecker/2.0","x":""}"#,
    b"1700000000.123|10.0.0.1:5555|ELB-HealthChecker/2.0|GET /a HTTP/1.0|503",
];

const CONFS: [&[u8]; 3] = [
    b"events {}\nhttp { log_format x escape=json '{\"a\":\"$remote_addr\"}'; access_log /a x buffer=1k flush=5s;\n\
      server { listen 8000-8002 ssl; listen [::1]:80 default_server; listen unix:/s; server_name a.b; return 444; } }",
    b"http { map $a $b { ~^x{2}$ 1; default \"}\"; } server { content_by_lua_block { local i = s:find(\"{\", 1, true) -- }\n\
      x = [==[ } ]==] } access_log off; location ~ \"^/a{3}$\" { access_log /$host.log; } } }",
    b"vendor { r.return(200, `}`); } # end\n'a b' ${c}_d \"e\\\"f\";",
];

/// As much memory as all of this may take, in kB.
const MOST_KB: u64 = 64 << 10;
const LONGEST: usize = 4096;
const MOST_KEPT: usize = 4096;

thread_local! {
    /// What is being tried, for who has to look into it.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// xorshift64*: repeatable, and good enough to throw dice with.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.throw(of.len()))
    }

    /// Some changes: bytes set, cut, doubled, swapped for telling ones, or a part of another input.
    fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        const TELLING: &[u8] = b"\"\\'${}[]:;.- \n\r\0\t\x7f\xff09|x";
        let mut bytes = input.to_vec();
        for _ in 0..=self.throw(6) {
            let at = self.throw(bytes.len() + 1);
            let to = (at + self.throw(24)).min(bytes.len());
            match self.throw(6) {
                0 => drop(bytes.drain(at..to)),
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, bytes.get(at..to).unwrap_or_default().to_vec())),
                3 => bytes.extend_from_slice(other.get(self.throw(other.len())..).unwrap_or_default()),
                kind => {
                    let byte =
                        if kind == 4 { self.throw(256) as u8 } else { TELLING[self.throw(TELLING.len())] };
                    match bytes.get_mut(at) {
                        Some(old) => *old = byte,
                        None => bytes.push(byte),
                    }
                }
            }
        }
        bytes.truncate(LONGEST);
        bytes
    }
}

/// The shape of an outcome: inputs that lead to a new one are worth following.
fn shape(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn of_line(line: &Line<'_>) -> (bool, bool, Option<u16>, [usize; 5]) {
    let len = |value: &[u8]| value.len().min(12);
    let optional = |value: Option<&[u8]>| value.map_or(13, len);
    let lengths =
        [len(line.method), len(line.path), len(line.agent), optional(line.forwarded), optional(line.host)];
    (line.node().is_some(), line.stamp().is_some(), line.status.map(|s| s / 100), lengths)
}

/// A line in every format; no value breaks out of its quotation marks.
fn lines(formats: &[Format], text: &[u8]) -> u64 {
    let outcome = |(at, format): (usize, &Format)| {
        let line = format.parse(text)?;
        let quotes = [line.agent, line.path].iter().any(|value| value.contains(&b'"'));
        assert!(at > 2 || !quotes, "a quotation mark inside a value");
        Some(of_line(&line))
    };
    for format in formats {
        let (at, _) = format.stops_at(text);
        assert!(at <= text.len(), "reading stops behind the line's end");
        let unwrapped = unwrap_json(text).unwrap_or_default();
        let _ = (format.parse_within(text), format.parse_within(&unwrapped));
    }
    shape(formats.iter().enumerate().map(outcome).collect::<Vec<_>>())
}

/// A block of lines: what it yields doesn't depend on where it was cut.
fn block(formats: &[Format], text: &[u8]) -> u64 {
    let scan = |parts: &[&[u8]]| {
        let (mut scanner, mut found) = (Scanner::new(formats.to_vec(), Vec::new()), Vec::new());
        parts.iter().for_each(|part| scanner.block(part, None, &mut |f| found.push((f.node, f.stamp.at_ms))));
        (found, scanner.traffic())
    };
    let (found, traffic) = scan(&[text]);
    assert!(traffic.probes + traffic.spoofed + traffic.unparsed <= traffic.lines);
    if let Some(at) = text.iter().position(|b| *b == b'\n') {
        let (again, _) = scan(&[&text[..=at], &text[at + 1..]]);
        assert_eq!(found, again, "cut after {at}");
    }
    shape((traffic.probes, traffic.spoofed, traffic.unparsed, traffic.lines.min(8)))
}

/// A format, and a line read by it.
fn format(text: &[u8], line: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    match Format::compile(&text) {
        Ok(format) => shape((format.verifiable(), format.parse(line).as_ref().map(of_line))),
        Err(e) => shape(e.to_string().get(..24)),
    }
}

/// A configuration: read to an end or to an error with a line that it has, within the bounds of a stranger's.
fn configuration(text: &[u8]) -> u64 {
    match Conf::from_text(text, Path::new("/nonexistent/nginx.conf"), &Bounds::STRANGERS) {
        Ok(conf) => {
            let listeners = conf.listeners();
            shape((
                listeners.len().min(8),
                conf.access_logs().len().min(8),
                conf.unlogged().len().min(8),
                conf.log_formats().len(),
            ))
        }
        Err(ConfError::Syntax { place, message }) => {
            assert!(
                place.line <= 1 + text.iter().filter(|b| **b == b'\n').count(),
                "a line that isn't there"
            );
            shape(message.get(..20))
        }
        Err(_) => 0,
    }
}

fn profile(text: &[u8]) -> u64 {
    match Curve::parse(&String::from_utf8_lossy(text)) {
        Ok(curve) => {
            assert!(curve.peak() <= 1.0 && curve.mean(100.0).is_finite());
            shape(curve.end().as_secs().min(64))
        }
        Err(e) => shape(e.message.get(..12)),
    }
}

fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().unwrap_or(10));
    let (secs, seed) = (args.next().unwrap_or(10), args.next().unwrap_or(4));
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        INPUT.with_borrow(|input| eprintln!("input: \"{}\"", input.escape_ascii()));
    }));
    // The first three escape quotation marks away.
    let texts = [COMBINED, MAIN, RECOMMENDED, JSON, BARE];
    let formats: Vec<Format> = texts.iter().filter_map(|text| Format::compile(text).ok()).collect();
    let mut corpora: [Vec<Vec<u8>>; 5] = [
        LINES.map(<[u8]>::to_vec).to_vec(),
        vec![LINES.join(&b'\n'), [LINES[0], LINES[0]].join(&b'\n')],
        texts.map(|text| text.as_bytes().to_vec()).to_vec(),
        vec![b"0 10\n60 80%\n# rest\n60 20\n".to_vec()],
        CONFS.map(<[u8]>::to_vec).to_vec(),
    ];
    let names = ["lines", "blocks", "formats", "profiles", "configurations"];
    let (mut tried, mut shapes) = ([0_u64; 5], [const { None::<HashSet<u64>> }; 5]);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let end = Instant::now() + Duration::from_secs(secs);
    while Instant::now() < end {
        for (target, corpus) in corpora.iter_mut().enumerate() {
            for _ in 0..64 {
                let (Some(one), Some(other)) = (dice.pick(corpus), dice.pick(corpus)) else { continue };
                let input = dice.mutate(one, other);
                INPUT.replace(input.clone());
                let outcome = match target {
                    0 => lines(&formats, &input),
                    1 => block(&formats, &input),
                    2 => format(&input, LINES[dice.throw(LINES.len())]),
                    3 => profile(&input),
                    _ => configuration(&input),
                };
                tried[target] += 1;
                if shapes[target].get_or_insert_default().insert(outcome) && corpus.len() < MOST_KEPT {
                    corpus.push(input);
                }
            }
        }
    }
    for (name, (tried, shapes)) in names.iter().zip(tried.iter().zip(&shapes)) {
        println!("{name}: {tried} inputs, {} shapes of outcome", shapes.as_ref().map_or(0, HashSet::len));
    }
    let peak = peak_kb();
    println!("seed {seed}, {secs} s, peak {:.1} MB", peak as f64 / 1024.0);
    if peak > MOST_KB {
        eprintln!("that is more memory than these inputs may cost");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
