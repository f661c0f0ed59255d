//! Durations as people write them: `600`, `600s`, `10m`, `1h`, `500ms`; a bare number is seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// The units, in milliseconds. Days and years are in it because `stress` takes them (its year has 365 days).
const UNITS: [(&str, f64); 6] =
    [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3600e3), ("d", 86_400e3), ("y", 365.0 * 86_400e3)];

/// Reads a duration: a number, whole or decimal, and a unit out of ms, s, m, h, d, y, without one seconds; to the
/// millisecond.
///
/// # Errors
/// One line that says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration: write 600, 600s, 10m, 1h or 500ms");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = if unit.is_empty() { "s" } else { unit };
    let scale = UNITS
        .iter()
        .find(|(name, _)| unit.eq_ignore_ascii_case(name))
        .map(|(_, ms)| *ms)
        .ok_or_else(wrong)?;
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let ms = (number * scale).round();
    if !(0.0..1e15).contains(&ms) {
        return Err(wrong());
    }
    Ok(Duration::from_millis(ms as u64))
}

/// A duration as people say it: one unit, as exact as matters.
pub fn spoken(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 if (1..100).contains(&duration.subsec_millis()) => format!("{} ms", duration.subsec_millis()),
        0..10 if duration.subsec_millis() != 0 => format!("{:.1} s", duration.as_secs_f64()),
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// As [`parse_duration`], for clap and for settings.
///
/// # Errors
/// One line that says what would be right.
pub fn parse_span(text: &str) -> Result<Span, String> {
    parse_duration(text).map(Span)
}

/// A duration in settings: a string with a unit, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A whole number of milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl fmt::Display for Span {
    /// The shortest notation that [`parse_duration`] reads back to the same value: `90s`, `500ms`, `10m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => write!(f, "0s"),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNotation;
        impl Visitor<'_> for AnyNotation {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\" or \"500ms\", or a number of seconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                parse_span(text).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                parse_span(&seconds.to_string()).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
                parse_span(&seconds.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(AnyNotation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_notation_of_the_contract_and_of_stress_is_read() {
        for (text, seconds) in [
            ("600", 600.0),
            ("600s", 600.0),
            ("10m", 600.0),
            ("1h", 3600.0),
            ("500ms", 0.5),
            ("1.5s", 1.5),
            ("2d", 172_800.0),
            ("1y", 31_536_000.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
    }

    #[test]
    fn a_duration_is_said_in_one_unit() {
        for (ms, text) in [
            (0, "0 s"),
            (32, "32 ms"),
            (300, "0.3 s"),
            (5000, "5 s"),
            (75_400, "75 s"),
            (600_000, "10 min"),
            (10_800_000, "3 h"),
            (14 * 86_400_000, "14 d"),
        ] {
            assert_eq!(spoken(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn anything_else_says_what_would_be_right() {
        for text in ["", "s", "-5", "5 s", "1h30m", "5x", "1e9", "nan", "99999999999999999999y", "٣s"] {
            let message = parse_duration(text).unwrap_err();
            assert!(message.contains("write 600, 600s"), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn what_is_displayed_reads_back(ms in 0..10_000_000_000_u64) {
            let span = Span::millis(ms);
            prop_assert_eq!(parse_span(&span.to_string()).unwrap(), span);
        }
    }
}
