//! A line, read by a compiled format. Allocates nothing; what comes in is hostile.

use std::net::IpAddr;

use memchr::memmem;

use super::stamp::{self, Stamp};
use super::{Escape, Format, Piece, Var};

/// How often a line may be tried in another way: values that look like what stands between values are rare.
pub(super) const STEPS: u32 = 300;

/// What a line says, in the log's own bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line<'a> {
    addr: Option<&'a [u8]>,
    peer: Option<&'a [u8]>,
    proxy: Option<&'a [u8]>,
    added: Option<&'a [u8]>,
    coarse: Option<Stamp>,
    fine: Option<Stamp>,
    /// How long it took to answer, milliseconds (`$request_time`), where the format has it.
    pub took_ms: Option<i64>,
    /// The status code.
    pub status: Option<u16>,
    /// The request's method.
    pub method: &'a [u8],
    /// The request's path, with its query.
    pub path: &'a [u8],
    /// The User-Agent.
    pub agent: &'a [u8],
    /// `X-Forwarded-For`, where the format has it; `None` also stands for an absent header.
    pub forwarded: Option<&'a [u8]>,
    /// The Host header, where the format has it.
    pub host: Option<&'a [u8]>,
}

impl Line<'_> {
    /// When it was logged, as exactly as the line says.
    pub fn stamp(&self) -> Option<Stamp> {
        self.fine.or(self.coarse)
    }

    /// Who connected: the peer where logged, else `$remote_addr`, else what holds exactly one address. An IPv4 address
    /// in IPv6's clothes is IPv4.
    pub fn node(&self) -> Option<IpAddr> {
        [self.peer, self.addr, self.proxy, self.added].into_iter().flatten().find_map(|text| {
            let text = std::str::from_utf8(text).ok()?;
            Some(text.parse::<IpAddr>().ok()?.to_canonical())
        })
    }
}

/// Reads a line; `cut` allows for something behind it that isn't nginx's.
pub(super) fn line<'a>(format: &Format, text: &'a [u8], cut: bool, steps: &mut u32) -> Option<Line<'a>> {
    let mut found = Line::default();
    let mut rest = text;
    let (last, firsts) = format.segments.split_last()?;
    for pieces in firsts {
        let end = quote(format.escape, rest)?;
        segment(pieces, &rest[..end], &mut found, steps)?;
        rest = &rest[end + 1..];
    }
    if cut {
        begins(last, rest, &mut found)?;
        return Some(found);
    }
    if format.escape != Escape::None && quote(format.escape, rest).is_some() {
        return None; // a quotation mark too many: of another format
    }
    segment(last, rest, &mut found, steps)?;
    Some(found)
}

/// Up to which byte a line is read, and what the format has there; for people who look for what is wrong.
pub(super) fn stops_at(format: &Format, text: &[u8]) -> (usize, String) {
    let mut at = 0;
    for (number, pieces) in format.segments.iter().enumerate() {
        let rest = text.get(at..).unwrap_or_default();
        let last = number + 1 == format.segments.len();
        let end = if last { Some(rest.len()) } else { quote(format.escape, rest) };
        let part = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if segment(pieces, part, &mut Line::default(), &mut { STEPS }).is_none() {
            let (pieces, unread) = leftmost(pieces, part);
            let offset = at + part.len() - unread.len();
            return match pieces.first() {
                Some(Piece::Text(literal)) => (offset, format!("\"{}\"", String::from_utf8_lossy(literal))),
                Some(Piece::Var(var)) => (offset, var.in_words().to_owned()),
                None if last => (offset, "the line's end".to_owned()),
                None => (offset, "a quotation mark".to_owned()),
            };
        }
        let Some(end) = end else { return (text.len(), "a quotation mark".to_owned()) };
        at += end + 1;
    }
    (text.len(), "the line's end".to_owned())
}

/// The pieces and the text that are left when a segment is read from the left, as far as that goes.
fn leftmost<'p, 'a>(pieces: &'p [Piece], text: &'a [u8]) -> (&'p [Piece], &'a [u8]) {
    let (mut pieces, mut text) = (pieces, text);
    while let [first, others @ ..] = pieces {
        let next = match first {
            Piece::Text(literal) => text.strip_prefix(literal.as_slice()),
            Piece::Var(var) if var.is_strict() => length(*var, text, others.first())
                .and_then(|length| text.split_at_checked(length))
                .and_then(|(value, rest)| set(*var, value, &mut Line::default()).map(|()| rest)),
            // Up to the text behind it.
            Piece::Var(_) => match others.first() {
                Some(Piece::Text(literal)) => memmem::find(text, literal).and_then(|at| text.get(at..)),
                Some(Piece::Var(_)) => Some(text),
                None => Some(&text[text.len()..]),
            },
        };
        let Some(rest) = next else { break };
        (pieces, text) = (others, rest);
    }
    (pieces, text)
}

/// Where the next quotation mark is that belongs to the format.
fn quote(escape: Escape, text: &[u8]) -> Option<usize> {
    let backslashes = |at: usize| text[..at].iter().rev().take_while(|b| **b == b'\\').count();
    memchr::memchr_iter(b'"', text).find(|at| escape != Escape::Json || backslashes(*at) % 2 == 0)
}

/// Reads the last segment of a line that something follows: from the left alone, up to what isn't a part of a word.
fn begins<'a>(pieces: &[Piece], text: &'a [u8], found: &mut Line<'a>) -> Option<()> {
    let (pieces, text) = from_left(pieces, text, found)?;
    match pieces {
        [] => (!text.first().is_some_and(u8::is_ascii_alphanumeric)).then_some(()),
        // Where it ends nobody knows.
        [Piece::Var(var)] => set(*var, text, found),
        _ => None,
    }
}

/// Reads what stands between two quotation marks: from the left and from the right as far as grammar carries.
fn segment<'a>(pieces: &[Piece], text: &'a [u8], found: &mut Line<'a>, steps: &mut u32) -> Option<()> {
    let (mut pieces, mut text) = from_left(pieces, text, found)?;
    while let [others @ .., last] = pieces
        && !others.is_empty()
    {
        match last {
            Piece::Text(literal) => text = text.strip_suffix(literal.as_slice())?,
            // `$status$body_bytes_sent`: where the second begins only the first one tells.
            Piece::Var(var)
                if fixed_length(*var).is_none() && matches!(others.last(), Some(Piece::Var(_))) =>
            {
                break;
            }
            Piece::Var(var) if var.is_strict() => {
                let (rest, value) =
                    text.split_at_checked(text.len().checked_sub(length_back(*var, text)?)?)?;
                set(*var, value, found)?;
                text = rest;
            }
            Piece::Var(_) => break,
        }
        pieces = others;
    }
    middle(pieces, text, found, steps)
}

/// Reads texts and values of a known grammar from the left; what is left of pieces and text.
fn from_left<'a, 'p>(
    pieces: &'p [Piece],
    text: &'a [u8],
    found: &mut Line<'a>,
) -> Option<(&'p [Piece], &'a [u8])> {
    let (mut pieces, mut text) = (pieces, text);
    while let [first, others @ ..] = pieces {
        match first {
            Piece::Text(literal) => text = text.strip_prefix(literal.as_slice())?,
            Piece::Var(var) if var.is_strict() => {
                let (value, rest) = text.split_at_checked(length(*var, text, others.first())?)?;
                set(*var, value, found)?;
                text = rest;
            }
            Piece::Var(_) => break,
        }
        pieces = others;
    }
    Some((pieces, text))
}

/// Reads what neither end's grammar reaches: values that can be anything, parted by texts that may be in them too.
fn middle<'a>(pieces: &[Piece], text: &'a [u8], found: &mut Line<'a>, steps: &mut u32) -> Option<()> {
    let vars = pieces.iter().take_while(|piece| matches!(piece, Piece::Var(_))).count();
    let (run, others) = pieces.split_at_checked(vars)?;
    let Some((Piece::Text(literal), others)) = others.split_first() else {
        return if run.is_empty() { text.is_empty().then_some(()) } else { values(run, text, found) };
    };
    for at in memmem::find_iter(text, literal) {
        *steps = steps.checked_sub(1)?;
        let before = *found;
        let read = values(run, &text[..at], found);
        if read.and_then(|()| segment(others, &text[at + literal.len()..], found, steps)).is_some() {
            return Some(());
        }
        *found = before;
    }
    None
}

/// Reads the values of variables that stand side by side, as far as it can be told which is which.
fn values<'a>(run: &[Piece], text: &'a [u8], found: &mut Line<'a>) -> Option<()> {
    let var = |piece: &Piece| match piece {
        Piece::Var(var) => *var,
        Piece::Text(_) => Var::Other,
    };
    match run {
        [one] => set(var(one), text, found),
        // `$uri$is_args$args`
        [first, others @ ..]
            if var(first) == Var::Path && others.iter().all(|piece| var(piece) == Var::Query) =>
        {
            set(Var::Path, text, found)
        }
        // `$scheme$host$request_uri`: a path begins at the first slash.
        [hosts @ .., last]
            if var(last) == Var::Path
                && hosts.iter().all(|piece| matches!(var(piece), Var::Host | Var::Name)) =>
        {
            let (host, path) = text.split_at_checked(memchr::memchr(b'/', text).unwrap_or(text.len()))?;
            if let [one] = hosts {
                set(var(one), host, found)?;
            }
            set(Var::Path, path, found)
        }
        _ => Some(()),
    }
}

/// How long the value of a strict variable at the start of `text` is, `next` being what follows it.
fn length(var: Var, text: &[u8], next: Option<&Piece>) -> Option<usize> {
    if let Some(fixed) = fixed_length(var) {
        return Some(fixed);
    }
    let run = text.iter().take_while(|b| belongs(var, **b)).count();
    if run == 0 && matches!(var, Var::Addr | Var::PeerAddr) {
        return None; // somebody has connected
    }
    if var == Var::Msec {
        // Three decimals, whatever stands beside them.
        let whole = text.iter().take_while(|b| b.is_ascii_digit()).count();
        return Some((whole + 4).min(run));
    }
    match next {
        // `$remote_addr:$remote_port`
        Some(Piece::Text(literal)) if literal.first().is_some_and(|b| belongs(var, *b)) => {
            memchr::memrchr(*literal.first()?, &text[..run])
        }
        // `$body_bytes_sent$status`
        Some(Piece::Var(next)) if *next == Var::Status => run.checked_sub(3),
        _ => Some(run),
    }
}

fn length_back(var: Var, text: &[u8]) -> Option<usize> {
    Some(fixed_length(var).unwrap_or_else(|| text.iter().rev().take_while(|b| belongs(var, **b)).count()))
}

fn fixed_length(var: Var) -> Option<usize> {
    match var {
        Var::TimeLocal => Some(stamp::LOCAL_LEN),
        Var::TimeIso => Some(stamp::ISO_LEN),
        Var::Status => Some(3),
        _ => None,
    }
}

fn belongs(var: Var, byte: u8) -> bool {
    match var {
        Var::Addr | Var::PeerAddr => byte.is_ascii_alphanumeric() || byte == b':' || byte == b'.',
        Var::ProxyAddr => byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.' | b'-'),
        Var::Method => byte.is_ascii_uppercase() || byte == b'_' || byte == b'-',
        Var::Msec => byte.is_ascii_digit() || byte == b'.',
        _ => byte.is_ascii_digit() || byte == b'.' || byte == b'-',
    }
}

fn set<'a>(var: Var, value: &'a [u8], found: &mut Line<'a>) -> Option<()> {
    let given = Some(value).filter(|v| !v.is_empty() && *v != b"-");
    match var {
        Var::Addr => found.addr = Some(value),
        Var::PeerAddr => found.peer = Some(value),
        Var::ProxyAddr => found.proxy = given,
        Var::AddedFor if value.contains(&b',') => found.forwarded = Some(value),
        Var::AddedFor => found.added = given,
        Var::TimeLocal => found.coarse = Some(stamp::local(value)?),
        Var::TimeIso => found.coarse = Some(stamp::iso8601(value)?),
        Var::Msec => found.fine = Some(stamp::msec(value)?),
        Var::RequestTime => found.took_ms = stamp::seconds_ms(value),
        Var::Status => {
            let number =
                value.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u16::from(b - b'0')));
            found.status = Some(number?);
        }
        Var::Request => {
            let end = memchr::memchr(b' ', value).unwrap_or(value.len());
            found.method = &value[..end];
            let rest = value.get(end + 1..).unwrap_or_default();
            found.path = &rest[..memchr::memrchr(b' ', rest).unwrap_or(rest.len())];
        }
        Var::Method => found.method = value,
        Var::Path => found.path = value,
        Var::Agent => found.agent = value,
        Var::Forwarded => found.forwarded = given,
        Var::Host => found.host = given,
        Var::Query | Var::Name | Var::Number | Var::Other => {}
    }
    Some(())
}

#[cfg(test)]
mod tests;
