//! Blocks of lines become probes and a measure of the other traffic. The User-Agent is searched in the whole block,
//! and only lines that have it are looked at, strictly.

use std::collections::VecDeque;
use std::net::IpAddr;

use ipnet::IpNet;
use memchr::memmem::Finder;

use super::format::{Format, Line, Stamp, unwrap_json};
use super::outsiders::Outsiders;
use super::unread::Unread;

/// What the load balancer calls itself
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>).
pub const USER_AGENT: &[u8] = b"ELB-HealthChecker/2.0";

/// What a Classic Load Balancer calls itself.
const CLASSIC: &[u8] = b"ELB-HealthChecker/1.0";

/// What both have in common, and lines are searched for.
const NEEDLE: &[u8] = b"ELB-HealthChecker/";

/// A line that arrives later than this after its stamp was held back (`access_log … buffer=`, `flush=`).
const PROMPT_MS: i64 = 1500;
/// For how long one such line counts: buffers are flushed more often, and a machine may have stalled once.
const LATE_COUNTS_MS: i64 = 600_000;
/// How many of a block's last lines are asked for their time until one tells it.
const LAST_LINES: usize = 4;
/// How many formats of a configuration that was changed are kept.
const KEPT_FORMATS: usize = 8;
/// How many lines are kept that couldn't be read, and of which length.
const KEPT_LINES: usize = 64;
const KEPT_LENGTH: usize = 4 << 10;
/// How exactly an arrival tells when a line was written.
const ARRIVAL_RESOLUTION_MS: u32 = 50;

/// A probe that was found in the log.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The load balancer's node.
    pub node: IpAddr,
    /// When it was answered, as exactly as can be told.
    pub stamp: Stamp,
    /// All else that the line says.
    pub line: Line<'a>,
    /// The line itself.
    pub text: &'a [u8],
}

impl Found<'_> {
    /// The same without what borrows from the line.
    pub fn without_text(&self) -> Found<'static> {
        Found { node: self.node, stamp: self.stamp, line: Line::default(), text: b"" }
    }
}

/// When a block arrived, for blocks that are read as they are written.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// Told by an event, not by the poll.
    pub prompt: bool,
}

/// What was scanned so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Traffic {
    /// All lines.
    pub lines: u64,
    /// All bytes.
    pub bytes: u64,
    /// Lines that are probes.
    pub probes: u64,
    /// Lines with the load balancer's User-Agent that didn't come from it.
    pub spoofed: u64,
    /// Lines that have its name in them and aren't of the format.
    pub unparsed: u64,
    /// Lines that are probes of a Classic Load Balancer (`ELB-HealthChecker/1.0`).
    pub classic: u64,
    /// Blocks of lines of which none that was looked at is of the format.
    pub unread_blocks: u64,
    /// The time of the first line, milliseconds since 1970.
    pub first_ms: Option<i64>,
    /// The time of the last line.
    pub last_ms: Option<i64>,
    /// How late lines came that were read as they were written, at most, of late; 0 where all came at once.
    pub late_ms: i64,
}

impl Traffic {
    /// That of two logs together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            bytes: self.bytes + other.bytes,
            probes: self.probes + other.probes,
            spoofed: self.spoofed + other.spoofed,
            unparsed: self.unparsed + other.unparsed,
            classic: self.classic + other.classic,
            unread_blocks: self.unread_blocks + other.unread_blocks,
            first_ms: self.first_ms.into_iter().chain(other.first_ms).min(),
            last_ms: self.last_ms.max(other.last_ms),
            late_ms: self.late_ms.max(other.late_ms),
        }
    }
}

/// Finds probes.
#[derive(Debug)]
pub struct Scanner {
    finder: Finder<'static>,
    formats: Vec<Format>,
    nodes: Vec<IpNet>,
    traffic: Traffic,
    /// When a line last came late.
    late_at_ms: i64,
    outsiders: Outsiders,
    unread: Option<Unread>,
    /// The last lines that couldn't be read: of a format that isn't known yet, perhaps.
    kept: VecDeque<Vec<u8>>,
}

impl Scanner {
    /// Looks for probes in lines of the first of `formats` that fits; their senders must be in `nodes`, or, where
    /// that is empty, private addresses.
    pub fn new(formats: Vec<Format>, nodes: Vec<IpNet>) -> Self {
        Self {
            finder: Finder::new(NEEDLE),
            formats,
            nodes,
            traffic: Traffic::default(),
            late_at_ms: 0,
            outsiders: Outsiders::default(),
            unread: None,
            kept: VecDeque::new(),
        }
    }

    /// From now on there may be lines of these formats too. Of those that were known so many are kept, as nginx goes on
    /// with them until it is reloaded.
    /// Lines that couldn't be read before are tried once more.
    pub(super) fn learn(&mut self, formats: &[Format], found: &mut dyn FnMut(Found<'_>)) {
        let known = std::mem::take(&mut self.formats);
        self.formats = known.iter().take(1).filter(|used| formats.contains(used)).cloned().collect();
        for format in formats.iter().chain(known.iter().take(KEPT_FORMATS)) {
            if !self.formats.contains(format) {
                self.formats.push(format.clone());
            }
        }
        let kept = std::mem::take(&mut self.kept);
        self.traffic.unparsed -= kept.len() as u64;
        if self.traffic.unparsed == 0 {
            self.unread = None;
        }
        kept.iter().rev().for_each(|text| self.candidate(text, None, found));
    }

    /// What was scanned so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The format that lines have.
    pub fn format(&self) -> Option<&Format> {
        self.formats.first()
    }

    /// Who bears the load balancer's name and isn't in its networks.
    pub fn outsiders(&self) -> &Outsiders {
        &self.outsiders
    }

    /// The first line with the load balancer's name that couldn't be read, else the first line of a block of which none
    /// could be.
    pub fn unread(&self) -> Option<&Unread> {
        self.unread.as_ref()
    }

    /// Whether a forged User-Agent would show.
    pub fn verifiable(&self) -> bool {
        self.format().is_some_and(Format::verifiable)
    }

    /// Scans a block of whole lines.
    pub fn block(&mut self, block: &[u8], arrival: Option<Arrival>, found: &mut dyn FnMut(Found<'_>)) {
        self.traffic.bytes += block.len() as u64;
        self.traffic.lines += bytecount::count(block, b'\n') as u64;
        self.traffic.lines += u64::from(!block.ends_with(b"\n") && !block.is_empty());
        self.times(block, arrival);
        let mut from = 0;
        while let Some(at) = block.get(from..).and_then(|rest| self.finder.find(rest)).map(|at| at + from) {
            let start = memchr::memrchr(b'\n', &block[..at]).map_or(0, |b| b + 1);
            let end = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |b| b + at);
            from = end;
            self.candidate(trim(&block[start..end]), arrival, found);
        }
    }

    /// A line that has the name in it somewhere.
    fn candidate(&mut self, text: &[u8], arrival: Option<Arrival>, found: &mut dyn FnMut(Found<'_>)) {
        let unwrapped;
        let (line, text) = if let Some(line) = self.parse(text) {
            (line, text)
        } else {
            unwrapped = unwrap_json(text).unwrap_or_default();
            match self.parse(&unwrapped) {
                Some(line) => (line, unwrapped.as_slice()),
                None => return self.not_read(text),
            }
        };
        if line.agent == CLASSIC {
            self.traffic.classic += 1;
        }
        if line.agent != USER_AGENT {
            return;
        }
        let (node, stamp) = (line.node(), line.stamp());
        if line.forwarded.is_some() {
            self.traffic.spoofed += 1;
            return;
        }
        let (Some(node), Some(stamp)) = (node, stamp) else { return self.not_read(text) };
        if !self.is_node(node) {
            self.traffic.spoofed += 1;
            self.outsiders.count(node);
            return;
        }
        self.traffic.probes += 1;
        self.traffic.first_ms = self.traffic.first_ms.or(Some(stamp.at_ms));
        self.traffic.last_ms = self.traffic.last_ms.or(Some(stamp.at_ms));
        found(Found { node, stamp: sharpen(stamp, arrival), line, text });
    }

    fn not_read(&mut self, text: &[u8]) {
        self.traffic.unparsed += 1;
        if self.traffic.unparsed == 1 {
            self.unread = Unread::of(text, &self.formats).or(self.unread.take());
        }
        if text.len() <= KEPT_LENGTH {
            self.kept.truncate(KEPT_LINES - 1);
            self.kept.push_front(text.to_vec());
        }
    }

    /// Reads a line by the format, or by the first other one that fits, which then is the format.
    pub(super) fn parse<'a>(&mut self, text: &'a [u8]) -> Option<Line<'a>> {
        if let Some(line) = self.formats.first()?.parse(text) {
            return Some(line);
        }
        let fits = |at: &usize| self.formats.get(*at).is_some_and(|format| format.parse(text).is_some());
        if let Some(at) = (1..self.formats.len()).find(fits) {
            self.formats.swap(0, at);
            return self.formats.first()?.parse(text);
        }
        self.formats.iter().find_map(|format| format.parse_within(text))
    }

    /// When a line was logged.
    fn time(&mut self, text: &[u8]) -> Option<Stamp> {
        if let Some(line) = self.parse(text) {
            return line.stamp();
        }
        let unwrapped = unwrap_json(text)?;
        self.parse(&unwrapped)?.stamp()
    }

    /// Keeps the times of the block's first and last line.
    fn times(&mut self, block: &[u8], arrival: Option<Arrival>) {
        let live = arrival.is_some();
        if self.traffic.first_ms.is_none() || live {
            let first = block.split(|b| *b == b'\n').next().unwrap_or_default();
            let stamp = self.time(trim(first));
            if stamp.is_none() && self.unread.is_none() && !first.is_empty() {
                self.unread = Unread::of(trim(first), &self.formats);
            }
            self.traffic.first_ms = self.traffic.first_ms.or(stamp.map(|s| s.at_ms));
            if let (Some(stamp), Some(arrival)) = (stamp, arrival) {
                let late = arrival.at_ms - stamp.at_ms - i64::from(stamp.resolution_ms);
                if arrival.at_ms - self.late_at_ms > LATE_COUNTS_MS {
                    self.traffic.late_ms = 0;
                }
                if late > PROMPT_MS {
                    self.late_at_ms = arrival.at_ms;
                    self.traffic.late_ms = self.traffic.late_ms.max(late);
                }
            }
        }
        let mut body = block.strip_suffix(b"\n").unwrap_or(block);
        for _ in 0..LAST_LINES {
            let start = memchr::memrchr(b'\n', body);
            let last = &body[start.map_or(0, |b| b + 1)..];
            if let Some(stamp) = self.time(trim(last)) {
                self.traffic.last_ms = self.traffic.last_ms.max(Some(stamp.at_ms));
                return;
            }
            let Some(start) = start else { break };
            body = &body[..start];
        }
        self.traffic.unread_blocks += u64::from(!block.is_empty());
    }

    fn is_node(&self, ip: IpAddr) -> bool {
        if self.nodes.is_empty() { is_private(ip) } else { self.nodes.iter().any(|net| net.contains(&ip)) }
    }
}

/// A line without its hole and its carriage return.
fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    &line[memchr::memrchr(0, line).map_or(0, |at| at + 1)..]
}

/// A stamp of whole seconds, and the moment at which the line was seen to arrive in that second.
fn sharpen(stamp: Stamp, arrival: Option<Arrival>) -> Stamp {
    match arrival {
        Some(Arrival { at_ms, prompt: true })
            if stamp.resolution_ms == 1000
                && (0..1000 + i64::from(ARRIVAL_RESOLUTION_MS)).contains(&(at_ms - stamp.at_ms)) =>
        {
            Stamp { at_ms, resolution_ms: ARRIVAL_RESOLUTION_MS }
        }
        _ => stamp,
    }
}

/// Addresses that only the own network has: RFC 1918, RFC 6598, link-local, loopback, RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
