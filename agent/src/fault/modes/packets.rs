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
pub(in crate::fault) fn reachable<'a>(listens: impl IntoIterator<Item = &'a SocketAddr>) -> Vec<SocketAddr> {
    listens.into_iter().copied().filter(|addr| !addr.ip().is_loopback()).collect()
}

/// How new connections get to the answerer of `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They keep their port (TPROXY), so that whatever lets clients through to nginx lets them through to the answerer.
    Port,
    /// They get the answerer's, on a kernel without that.
    Redirect,
}

/// What happens to whose packets.
struct Rules<'a> {
    mode: Mode,
    tcp: &'a [SocketAddr],
    udp: &'a [SocketAddr],
    lasts: Duration,
    /// Where the answerer of `error` listens.
    to: u16,
    way: Way,
}

/// Addresses as elements of sets.
#[derive(Default)]
struct Elements {
    ports: Vec<String>,
    v4: Vec<String>,
    v6: Vec<String>,
}

impl Elements {
    fn of(addrs: &[SocketAddr], timeout: &str) -> Self {
        let mut all = Self::default();
        for addr in addrs {
            match addr.ip() {
                ip if ip.is_unspecified() => all.ports.push(format!("{} {timeout}", addr.port())),
                IpAddr::V4(ip) => all.v4.push(format!("{ip} . {} {timeout}", addr.port())),
                IpAddr::V6(ip) => all.v6.push(format!("{ip} . {} {timeout}", addr.port())),
            }
        }
        all.ports.sort();
        all.ports.dedup(); // 0.0.0.0 and [::] are one element
        all
    }
}

impl Rules<'_> {
    /// The table, complete: it takes the place of the one there may be. New connections go to the answerer in `error`,
    /// those that are open are reset.
    fn text(&self) -> String {
        let timeout = format!("timeout {}ms", self.lasts.as_millis().max(1));
        let mut text = remove_text();
        let _ = writeln!(text, "table {TABLE} {{");
        for (protocol, addrs) in [("", self.tcp), ("udp_", self.udp)] {
            let all = Elements::of(addrs, &timeout);
            let sets = [
                ("ports", "inet_service", all.ports),
                ("v4", "ipv4_addr . inet_service", all.v4),
                ("v6", "ipv6_addr . inet_service", all.v6),
            ];
            for (name, kind, elements) in sets {
                let elements = match elements.join(", ") {
                    none if none.is_empty() => none,
                    some => format!("elements = {{ {some} }}"),
                };
                let _ = writeln!(text, "set {protocol}{name} {{ type {kind}; flags timeout; {elements}\n}}");
            }
        }
        let answered = self.mode == Mode::Error && self.way == Way::Port;
        let tcp = if self.mode == Mode::Drop { "drop" } else { "reject with tcp reset" };
        // An answer of HTTP/3 can't be had: without one, clients go on over TCP.
        let udp = if self.mode == Mode::Reject { "reject" } else { "drop" };
        let _ = writeln!(
            text,
            "chain incoming {{ type filter hook input priority -10; policy accept;\niif lo accept"
        );
        if answered {
            text.push_str("meta l4proto tcp socket transparent 1 accept\n");
        }
        text.push_str(&matching("tcp", "", tcp));
        text.push_str(&matching("udp", "udp_", udp));
        text.push_str("}\n");
        if self.mode == Mode::Error {
            // Behind other people's redirections (dstnat, -100) with TPROXY; before them without it.
            let (kind, verdict) = match self.way {
                Way::Port => {
                    ("filter hook prerouting priority -90", format!("tproxy to :{} accept", self.to))
                }
                Way::Redirect => ("nat hook prerouting priority -110", format!("redirect to :{}", self.to)),
            };
            let _ = writeln!(text, "chain answered {{ type {kind}; policy accept;\niif lo accept");
            text.push_str(&match self.way {
                Way::Redirect => matching("tcp", "", &verdict),
                Way::Port => {
                    let family = |family: &str| format!("tproxy {family} to :{} accept", self.to);
                    format!(
                        "tcp dport @ports {verdict}\nip daddr . tcp dport @v4 {}\nip6 daddr . tcp dport @v6 {}\n",
                        family("ip"),
                        family("ip6")
                    )
                }
            });
            text.push_str("}\n");
        }
        text.push_str("}\n");
        text
    }
}

fn matching(protocol: &str, sets: &str, verdict: &str) -> String {
    format!(
        "{protocol} dport @{sets}ports {verdict}\nip daddr . {protocol} dport @{sets}v4 {verdict}\n\
         ip6 daddr . {protocol} dport @{sets}v6 {verdict}\n"
    )
}

/// Declared before it is deleted, so that its absence is no error.
fn remove_text() -> String {
    format!("table {TABLE}\ndelete table {TABLE}\n")
}

/// Puts the rules in force, all of them or none: for the TCP addresses and the UDP ones; in `error` the answerer listens
/// on the port `to`.
pub(in crate::fault) fn apply(
    mode: Mode,
    tcp: &[SocketAddr],
    udp: &[SocketAddr],
    lasts: Duration,
    to: u16,
) -> io::Result<()> {
    let way = if mode == Mode::Error { way() } else { Way::Port };
    nft(&["-f", "-"], &Rules { mode, tcp, udp, lasts, to, way }.text()).map(drop)
}

/// Takes them away; none there is fine.
pub(in crate::fault) fn remove() -> io::Result<()> {
    nft(&["-f", "-"], &remove_text()).map(drop)
}

/// How many ports the kernel says are affected right now.
pub(in crate::fault) fn in_force() -> io::Result<usize> {
    Ok(nft(&["list", "table", "inet", "asg_agent_fault"], "")?.matches("expires").count())
}

/// Why this machine can't do without packets, if it can't: the kernel checks the rules and takes none of them (`nft -c`),
/// so that a fault that is active stays as it is.
pub(in crate::fault) fn missing(mode: Mode) -> Option<String> {
    match check(mode, Way::Port) {
        Err(_) if mode == Mode::Error => check(mode, Way::Redirect),
        checked => checked,
    }
    .err()
    .map(|e| e.to_string())
}

fn check(mode: Mode, way: Way) -> io::Result<()> {
    let any = [SocketAddr::from(([0, 0, 0, 0], 1))];
    let rules = Rules { mode, tcp: &any, udp: &any, lasts: Duration::from_millis(1), to: 1, way };
    nft(&["-c", "-f", "-"], &rules.text()).map(drop)
}

fn way() -> Way {
    if check(Mode::Error, Way::Port).is_ok() { Way::Port } else { Way::Redirect }
}

/// What may keep clients from the answerer of `error`, where it can't answer on nginx's own ports: rules for incoming
/// packets that let through what they know, and redirections that come before ours.
pub(in crate::fault) fn in_the_way() -> Option<String> {
    if way() == Way::Port {
        return None;
    }
    let rules = nft(&["list", "ruleset"], "").unwrap_or_default();
    let legacy = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    let filters = rules.contains("hook input") && rules.contains("policy drop") || legacy.contains("filter");
    let redirects =
        rules.contains("hook prerouting") && (rules.contains("redirect") || rules.contains("dnat"));
    (filters || redirects).then(|| {
        "this kernel can't answer on nginx's own ports (no TPROXY), and this host has packet rules of its own: clients \
         may see silence or a reset instead of the status"
            .to_owned()
    })
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

    fn rules(mode: Mode, tcp: &[SocketAddr], udp: &[SocketAddr], way: Way) -> String {
        Rules { mode, tcp, udp, lasts: Duration::from_millis(1500), to: 4711, way }.text()
    }

    #[test]
    fn loopback_is_not_reachable() {
        let all = addrs(&["127.0.0.1:80", "[::1]:80", "0.0.0.0:80", "10.0.0.1:81"]);
        assert_eq!(reachable(&all), addrs(&["0.0.0.0:80", "10.0.0.1:81"]));
    }

    #[test]
    fn each_listener_is_an_element_with_a_timeout() {
        let all = addrs(&["0.0.0.0:80", "[::]:80", "10.0.0.1:81", "[fd00::1]:82"]);
        let text = rules(Mode::Drop, &all, &addrs(&["0.0.0.0:443"]), Way::Port);
        assert_eq!(text.matches("80 timeout 1500ms").count(), 1);
        assert!(
            text.contains("10.0.0.1 . 81 timeout 1500ms") && text.contains("fd00::1 . 82 timeout 1500ms")
        );
        assert!(text.contains("set udp_ports { type inet_service; flags timeout; elements = { 443 timeout"));
        assert!(text.contains("tcp dport @ports drop") && text.contains("udp dport @udp_ports drop"));
        assert!(!text.contains("tproxy") && !text.contains("redirect"));
        assert!(text.starts_with("table inet asg_agent_fault\ndelete table inet asg_agent_fault\n"));
    }

    #[test]
    fn an_error_leads_new_connections_away_and_resets_what_is_open() {
        let all = addrs(&["0.0.0.0:80"]);
        let text = rules(Mode::Error, &all, &[], Way::Port);
        assert!(
            text.contains("@ports tproxy to :4711") && text.contains("@ports reject with tcp reset"),
            "{text}"
        );
        assert!(text.find("socket transparent 1 accept") < text.find("reject with tcp reset"));
        let text = rules(Mode::Error, &all, &[], Way::Redirect);
        assert!(text.contains("@ports redirect to :4711") && !text.contains("socket transparent"), "{text}");
        assert_eq!(text.matches("iif lo accept").count(), 2);
    }
}
