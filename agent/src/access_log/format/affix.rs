//! What others put around nginx's lines: a prefix (`2026-11-27T18:00:00Z stdout F …`, `web-1  | …`,
//! `Nov 27 18:00:00 host nginx: …`), a suffix, or a JSON object with the line as a string (Docker's `json-file`,
//! Fluent Bit, ECS).

use super::parse::{self, Line};
use super::{Format, Piece, Var};

/// How far into a line its first word may begin, and how many words are tried.
const REACH: usize = 512;
const TRIES: usize = 64;

/// Reads a line of a format with something in front of it or behind it.
pub(super) fn line<'a>(format: &Format, text: &'a [u8]) -> Option<Line<'a>> {
    let first = format.segments.first()?.first();
    // One allowance for all beginnings: a hostile line costs no more than another.
    let mut steps = parse::STEPS;
    for cut in [false, true] {
        let found = starts(text, first).find_map(|at| parse::line(format, text.get(at..)?, cut, &mut steps));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Where the format's first piece may begin.
fn starts<'t>(text: &'t [u8], first: Option<&Piece>) -> impl Iterator<Item = usize> + 't {
    let begins = match first {
        Some(Piece::Text(literal)) => literal.first().copied(),
        _ => None,
    };
    let free = matches!(first, Some(Piece::Var(var)) if !var.is_strict());
    let address = matches!(first, Some(Piece::Var(Var::Addr | Var::PeerAddr | Var::ProxyAddr)));
    let fits = move |byte: u8| match begins {
        Some(wanted) => byte == wanted,
        None if address => byte.is_ascii_hexdigit() || byte == b':' || byte == b'u',
        None => byte.is_ascii_graphic(),
    };
    let reach = text.len().min(REACH);
    let at_word = move |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        before.is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'.')
            && text.get(*at).is_some_and(|b| fits(*b))
    };
    // A value that can be anything takes a prefix in by itself.
    (0..if free { 1 } else { reach }).filter(at_word).take(TRIES)
}

/// The longest string of a JSON object, unescaped: the line that a container runtime wrapped. `None` where `text` is no
/// such object.
pub fn unwrap_json(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    if !(text.starts_with(b"{") && text.ends_with(b"}")) {
        return None;
    }
    let mut longest: &[u8] = b"";
    let mut at = 0;
    while let Some(open) = text.get(at..).and_then(|rest| memchr::memchr(b'"', rest)).map(|n| at + n) {
        let mut end = open + 1;
        while text.get(end).is_some_and(|b| *b != b'"') {
            end += if text.get(end) == Some(&b'\\') { 2 } else { 1 };
        }
        let whole = text.get(open..=end)?;
        if whole.len() > longest.len() {
            longest = whole;
        }
        at = end + 1;
    }
    let line: String = serde_json::from_slice(longest).ok()?;
    Some(line.trim_end_matches(['\n', '\r']).as_bytes().to_vec()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"172.31.5.17 - - [14/Nov/2023:22:13:20 +0000] "GET /health HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0""#;

    fn is_read(format: &str, line: &str) -> bool {
        let found = Format::compile(format).unwrap();
        found.parse_within(line.as_bytes()).is_some_and(|line| {
            line.node().unwrap().to_string() == "172.31.5.17"
                && line.agent == b"ELB-HealthChecker/2.0"
                && line.stamp().unwrap().at_ms == 1_700_000_000_000
        })
    }

    #[test]
    fn what_runtimes_put_around_a_line_is_stripped() {
        for (before, behind) in [
            ("", ""),
            ("2023-11-14T22:13:20.669794202Z stdout F ", ""),
            ("web-1  | ", ""),
            ("Nov 14 22:13:20 ip-172-31-1-1 nginx[812]: ", ""),
            ("<190>Nov 14 22:13:20 ip-172-31-1-1 nginx: ", ""),
            ("2023-11-14T22:13:20Z nginx/nginx/4f3c ", ""),
            ("", " \"-\" 0.001 0.000 ."),
            ("app[1]: ", " rt=0.002"),
        ] {
            assert!(is_read("combined", &format!("{before}{LINE}{behind}")), "{before}…{behind}");
        }
        assert!(!is_read("combined", &LINE.replace("] \"GET", " \"GET")));
        assert!(!is_read("combined", &format!("{LINE}x")));
    }

    #[test]
    fn the_line_in_a_json_string_is_found() {
        let escaped = LINE.replace('"', "\\\"");
        for json in [
            format!("{{\"log\":\"{escaped}\\n\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20.1Z\"}}"),
            format!("{{\"@timestamp\": \"x\", \"message\": \"{escaped}\"}}"),
        ] {
            assert_eq!(unwrap_json(json.as_bytes()).as_deref(), Some(LINE.as_bytes()));
        }
        assert_eq!(unwrap_json(LINE.as_bytes()), None);
        assert_eq!(unwrap_json(b"{\"log\":\"\\"), None);
        assert_eq!(unwrap_json(b"{}"), None);
    }
}
