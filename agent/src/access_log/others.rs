//! Who else checks this target's health, where no probe of an Application Load Balancer is in the log: looked for in
//! each log's last lines.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;

use super::format::Line;
use super::locate::{Located, LogFile};
use super::scan::Scanner;
use crate::logtail::open;

/// As much of a log's end as is looked at, and of how many logs.
const REACH: u64 = 256 << 10;
const MOST: usize = 8;

/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html>
const ROUTE_53: &[u8] = b"Amazon-Route53-Health-Check-Service";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Others {
    /// Requests of Route 53's health checkers.
    pub route_53: u64,
    /// Connections without a request: TCP health checks, of a Network Load Balancer for example.
    pub empty: u64,
    /// Where those came from.
    pub empty_from: BTreeSet<IpAddr>,
}

impl Others {
    /// Looks at the end of each log.
    pub fn find(located: &Located) -> Self {
        let mut found = Self::default();
        for log in located.logs.iter().take(MOST) {
            let Ok(text) = end_of(log) else { continue };
            let mut scanner = Scanner::new(log.formats.clone(), Vec::new());
            for line in text.split(|b| *b == b'\n').skip(1).filter(|line| !line.is_empty()) {
                if let Some(line) = scanner.parse(line) {
                    found.count(&line);
                }
            }
        }
        found
    }

    fn count(&mut self, line: &Line<'_>) {
        let is_empty = |value: &[u8]| value.is_empty() || value == b"-";
        if line.agent.starts_with(ROUTE_53) {
            self.route_53 += 1;
        } else if is_empty(line.method)
            && is_empty(line.path)
            && is_empty(line.agent)
            && matches!(line.status, Some(0 | 400 | 408 | 499))
            && let Some(from) = line.node()
        {
            self.empty += 1;
            if self.empty_from.len() < 8 {
                self.empty_from.insert(from);
            }
        }
    }
}

/// The log's last bytes; the first line of them may be cut.
fn end_of(log: &LogFile) -> io::Result<Vec<u8>> {
    let Some(file) = open(&log.path)? else { return Ok(Vec::new()) };
    let len = file.metadata()?.len();
    let from = len.saturating_sub(REACH);
    let mut bytes = vec![0; usize::try_from(len - from).unwrap_or(0)];
    let read = file.read_at(&mut bytes, from)?;
    bytes.truncate(read);
    if from == 0 {
        bytes.insert(0, b'\n');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::format::Format;
    use crate::nginx::conf::Held;

    #[test]
    fn route_53_and_tcp_checks_are_told_from_requests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let line = |from: &str, request: &str, status: u16, agent: &str| {
            format!("{from} - - [14/Nov/2023:22:13:20 +0000] \"{request}\" {status} 0 \"-\" \"{agent}\"\n")
        };
        let text = line("15.177.2.1", "GET /h HTTP/1.1", 200, "Amazon-Route53-Health-Check-Service (ref x)")
            + &line("10.0.0.5", "", 400, "-")
            + &line("10.0.0.5", "-", 400, "-")
            + &line("10.0.0.6", "\\x16\\x03", 400, "-")
            + &line("10.0.0.7", "GET / HTTP/1.1", 200, "-");
        std::fs::write(&path, text).unwrap();
        let log = LogFile { path, formats: vec![Format::compile("combined").unwrap()], held: Held::No };
        let found = Others::find(&Located { logs: vec![log], ..Located::default() });
        assert_eq!((found.route_53, found.empty), (1, 2));
        assert_eq!(found.empty_from.len(), 1);
    }
}
