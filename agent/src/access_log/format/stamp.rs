//! Timestamps as nginx writes them, read without allocating
//! (<https://nginx.org/en/docs/http/ngx_http_core_module.html#variables>).

/// How exactly a timestamp says when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// The event happened at most this long after `at_ms`: 1000 for whole seconds, 1 for `$msec`.
    pub resolution_ms: u32,
}

/// The length of `$time_local`, `22/Nov/2026:16:09:50 +0000`.
pub(super) const LOCAL_LEN: usize = 26;
/// The length of `$time_iso8601`, `2026-11-22T16:09:50+00:00`.
pub(super) const ISO_LEN: usize = 25;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Reads `$time_local`, all of `text`.
pub(super) fn local(text: &[u8]) -> Option<Stamp> {
    let [d1, d2, b'/', m1, m2, m3, b'/', y1, y2, y3, y4, b':', clock @ .., b' ', sign, h1, h2, o1, o2] = text
    else {
        return None;
    };
    let month = MONTHS.iter().position(|name| **name == [*m1, *m2, *m3])? as i64 + 1;
    let offset = offset(*sign, [*h1, *h2], [*o1, *o2])?;
    seconds(number(&[*y1, *y2, *y3, *y4])?, month, number(&[*d1, *d2])?, clock, offset)
}

/// Reads `$time_iso8601`, all of `text`.
pub(super) fn iso8601(text: &[u8]) -> Option<Stamp> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', clock @ .., sign, h1, h2, b':', o1, o2] = text
    else {
        return None;
    };
    let offset = offset(*sign, [*h1, *h2], [*o1, *o2])?;
    seconds(number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?, clock, offset)
}

/// Reads `$msec`, seconds with three decimals, all of `text`.
pub(super) fn msec(text: &[u8]) -> Option<Stamp> {
    Some(Stamp { at_ms: seconds_ms(text)?, resolution_ms: 1 })
}

/// Reads seconds with three decimals, all of `text`, as milliseconds.
pub(super) fn seconds_ms(text: &[u8]) -> Option<i64> {
    let (whole, decimals) = text.split_at_checked(text.len().checked_sub(4)?)?;
    let [b'.', decimals @ ..] = decimals else { return None };
    if whole.is_empty() || whole.len() > 11 {
        return None;
    }
    Some(number(whole)? * 1000 + number(decimals)?)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0_i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

/// Seconds east of Greenwich.
fn offset(sign: u8, hours: [u8; 2], minutes: [u8; 2]) -> Option<i64> {
    let seconds = number(&hours)? * 3600 + number(&minutes)? * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

fn seconds(year: i64, month: i64, day: i64, clock: &[u8], offset: i64) -> Option<Stamp> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let at = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Stamp { at_ms: at * 1000, resolution_ms: 1000 })
}

/// Days since 1970-01-01 in the Gregorian calendar; years are counted from March, so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_notations_of_one_moment_agree() {
        let at = |stamp: Option<Stamp>| stamp.map(|s| s.at_ms);
        assert_eq!(at(local(b"14/Nov/2023:23:13:20 +0100")), Some(1_700_000_000_000));
        assert_eq!(at(iso8601(b"2023-11-14T17:13:20-05:00")), Some(1_700_000_000_000));
        assert_eq!(msec(b"1700000000.120"), Some(Stamp { at_ms: 1_700_000_000_120, resolution_ms: 1 }));
        assert_eq!(at(local(b"29/Feb/2024:00:00:00 +0000")), Some(1_709_164_800_000));
    }

    #[test]
    fn what_nginx_never_writes_is_no_time() {
        for text in ["", "14/Nov/2023:23:13:20", "14/Nov/2023:24:13:20 +0100", "14/Nox/2023:23:13:20 +0100"] {
            assert_eq!(local(text.as_bytes()), None, "{text}");
        }
        for text in ["", ".", "1.1", "x700000000.120", "1700000000,120", ".120", "170000000012.120"] {
            assert_eq!(msec(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_reads_back(at in 0..4_102_444_800_i64) {
            let time = jiff::Timestamp::from_second(at).unwrap();
            let text = time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
            prop_assert_eq!(local(text.as_bytes()).unwrap().at_ms, at * 1000);
            let text = time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
            prop_assert_eq!(iso8601(text.as_bytes()).unwrap().at_ms, at * 1000);
        }
    }
}
