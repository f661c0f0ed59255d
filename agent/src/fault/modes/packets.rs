//! `drop`, `reject` and `error`: what happens to packets for nginx's ports, in a table of our own. Each port is an
//! element with a timeout, so the kernel ends the fault by itself; loopback and every other port are left alone.
//! Driven through nft(8), whose language is stable and whose transactions are all or nothing.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::fault::lease::record::Mode;
use crate::sys::run::bounded;

/// Nobody else's table has this name.
const TABLE: &str = "inet asg_agent_fault";
/// How long nft may wait for the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where distributions keep nft; root's PATH may be anybody's.
const NFT: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft"];

/// The ports that can be reached from another machine.
pub(in crate::fault) fn reachable(listens: &[SocketAddr]) -> Vec<SocketAddr> {
    listens.iter().copied().filter(|addr| !addr.ip().is_loopback()).collect()
}

/// The table, complete: it takes the place of the one there may be. New connections go to `to` in `error`, those that
/// are open are reset.
fn ruleset(mode: Mode, listens: &[SocketAddr], lasts: Duration, to: u16) -> String {
    let timeout = format!("timeout {}ms", lasts.as_millis().max(1));
    let (mut ports, mut v4, mut v6) = (Vec::new(), Vec::new(), Vec::new());
    for addr in listens {
        match addr.ip() {
            ip if ip.is_unspecified() => ports.push(format!("{} {timeout}", addr.port())),
            IpAddr::V4(ip) => v4.push(format!("{ip} . {} {timeout}", addr.port())),
            IpAddr::V6(ip) => v6.push(format!("{ip} . {} {timeout}", addr.port())),
        }
    }
    ports.sort();
    ports.dedup(); // 0.0.0.0 and [::] are one element
    let mut text = remove_text();
    let _ = writeln!(text, "table {TABLE} {{");
    let sets = [
        ("ports", "inet_service", ports),
        ("v4", "ipv4_addr . inet_service", v4),
        ("v6", "ipv6_addr . inet_service", v6),
    ];
    for (name, kind, elements) in sets {
        let elements = match elements.join(", ") {
            none if none.is_empty() => none,
            some => format!("elements = {{ {some} }}"),
        };
        let _ = writeln!(text, "set {name} {{ type {kind}; flags timeout; {elements}\n}}");
    }
    let mut chain = |name, kind, verdict: &str| {
        let _ = writeln!(text, "chain {name} {{ type {kind}; policy accept;\niif lo accept");
        for matched in ["tcp dport @ports", "ip daddr . tcp dport @v4", "ip6 daddr . tcp dport @v6"] {
            let _ = writeln!(text, "{matched} {verdict}");
        }
        text.push_str("}\n");
    };
    let verdict = if mode == Mode::Drop { "drop" } else { "reject with tcp reset" };
    chain("incoming", "filter hook input priority -10", verdict);
    if mode == Mode::Error {
        chain("rewritten", "nat hook prerouting priority -110", &format!("redirect to :{to}"));
    }
    text.push_str("}\n");
    text
}

/// Declared before it is deleted, so that its absence is no error.
fn remove_text() -> String {
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

/// Puts the rules in force, all of them or none.
pub(in crate::fault) fn apply(
    mode: Mode,
    listens: &[SocketAddr],
    lasts: Duration,
    to: u16,
) -> io::Result<()> {
    nft(&["-f", "-"], &ruleset(mode, listens, lasts, to)).map(drop)
}

/// Takes them away; none there is fine.
pub(in crate::fault) fn remove() -> io::Result<()> {
    nft(&["-f", "-"], &remove_text()).map(drop)
}

/// How many ports the kernel says are affected right now.
pub(in crate::fault) fn in_force() -> io::Result<usize> {
    Ok(nft(&["list", "table", "inet", "asg_agent_fault"], "")?.matches("expires").count())
}

/// Why this machine can't do without packets, if it can't: tried on a table that is gone within the transaction.
pub(in crate::fault) fn missing(mode: Mode) -> Option<String> {
    let any = [SocketAddr::from(([0, 0, 0, 0], 1))];
    let trial = ruleset(mode, &any, Duration::from_millis(1), 1) + &remove_text();
    nft(&["-f", "-"], &trial).err().map(|e| e.to_string())
}

fn nft(args: &[&str], input: &str) -> io::Result<String> {
    let program = NFT.into_iter().find(|path| Path::new(path).exists());
    let program = program.ok_or_else(|| io::Error::other("nft is missing: install the package nftables"))?;
    let mut command = Command::new(program);
    command.args(args).env_clear().current_dir("/");
    let done = bounded(&mut command, input, PATIENCE)?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = done.stderr.lines().next().unwrap_or("failed without a word").to_owned();
    Err(io::Error::other(format!("nft: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn loopback_is_not_reachable() {
        let all = addrs(&["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "10.0.0.1:81"]);
        assert_eq!(reachable(&all), addrs(&["0.0.0.0:80", "10.0.0.1:81"]));
    }

    #[test]
    fn each_listener_is_an_element_with_a_timeout() {
        let all = addrs(&["0.0.0.0:80", "[::]:80", "10.0.0.1:81", "[fd00::1]:82"]);
        let text = ruleset(Mode::Drop, &all, Duration::from_millis(1500), 0);
        assert_eq!(text.matches("80 timeout 1500ms").count(), 1);
        assert!(
            text.contains("10.0.0.1 . 81 timeout 1500ms") && text.contains("fd00::1 . 82 timeout 1500ms")
        );
        assert!(text.contains("@ports drop") && !text.contains("redirect"));
        assert!(text.starts_with("table inet asg_agent_fault\ndelete table inet asg_agent_fault\n"));
    }

    #[test]
    fn an_error_is_a_redirect_and_resets_what_is_open() {
        let text = ruleset(Mode::Error, &addrs(&["0.0.0.0:80"]), Duration::from_secs(1), 4711);
        assert!(text.contains("@ports redirect to :4711") && text.contains("@ports reject with tcp reset"));
        assert_eq!(text.matches("iif lo accept").count(), 2);
    }
}
