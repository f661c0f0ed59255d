//! A line that no format reads: what it looks like, and where reading stopped.

use serde::{Deserialize, Serialize};

use super::format::Format;

/// As much of a line as people want to see.
const SHOWN: usize = 200;

/// The first line that couldn't be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unread {
    /// Its beginning, made printable.
    pub line: String,
    /// The format that read furthest.
    pub format: String,
    /// Up to which byte it was read.
    pub stopped_at: usize,
    /// What the format has there.
    pub expected: String,
}

impl Unread {
    /// Tries `line` in every format once more, to see where reading stops.
    pub fn of(line: &[u8], formats: &[Format]) -> Option<Self> {
        let tried = formats.iter().map(|format| (format, format.stops_at(line)));
        let (format, (stopped_at, expected)) =
            tried.reduce(|best, next| if next.1.0 > best.1.0 { next } else { best })?;
        Some(Self { line: printable(line, SHOWN), format: format.name.clone(), stopped_at, expected })
    }

    /// For people: the line, and what was expected where.
    pub fn explain(&self) -> String {
        let Self { line, format, stopped_at, expected } = self;
        format!(
            "the first one: {line}\n  read by format {format} up to byte {stopped_at}, where {expected} is expected"
        )
    }
}

/// Hostile bytes as text of one line that can't move the cursor, cut to `most` characters.
pub fn printable(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(4 * most)).unwrap_or_default());
    let visible = |c: char| {
        !c.is_control()
            && !('\u{200b}'..='\u{200f}').contains(&c)
            && !('\u{202a}'..='\u{202e}').contains(&c)
            && !('\u{2066}'..='\u{2069}').contains(&c)
    };
    let mut shown: String =
        text.chars().take(most).map(|c| if visible(c) { c } else { '\u{fffd}' }).collect();
    if text.chars().count() > most || bytes.len() > 4 * most {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_where_reading_stops_is_told() {
        let formats = [Format::compile("combined").unwrap()];
        let line = br#"10.0.0.1 - - [2023-11-14] "GET / HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0""#;
        let unread = Unread::of(line, &formats).unwrap();
        assert_eq!((unread.format.as_str(), unread.stopped_at), ("combined", 14), "{unread:?}");
        let unread = Unread::of(br#"{"remote_addr":"10.0.0.1"}"#, &formats).unwrap();
        assert_eq!((unread.stopped_at, unread.expected.as_str()), (0, "an address"));
        let line = b"10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] GET";
        assert_eq!(Unread::of(line, &formats).unwrap().expected, "a quotation mark");
        let short = br#"10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET / HTTP/1.1" 200 5 "-" "ELB-HealthChecker/2.0" x"#;
        let unread = Unread::of(short, &formats).unwrap();
        assert_eq!((unread.stopped_at, unread.expected.as_str()), (short.len() - 2, "the line's end"));
    }

    #[test]
    fn what_could_move_a_cursor_is_replaced_and_long_lines_are_cut() {
        assert_eq!(printable(b"a\x1b[2Jb\xff", 10), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(printable("é".repeat(300).as_bytes(), 3), "ééé…");
        assert_eq!(printable("a\u{202e}b".as_bytes(), 9), "a\u{fffd}b");
    }
}
