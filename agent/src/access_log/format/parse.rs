//! A line, read by a compiled format. Allocates nothing; what comes in is hostile.

use std::net::IpAddr;

use memchr::memmem;

use super::stamp::{self, Stamp};
use super::{Escape, Format, Piece, Var};

/// What a line says, in the log's own bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line<'a> {
    addr: Option<&'a [u8]>,
    peer: Option<&'a [u8]>,
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

    /// Who connected: the peer where logged, else `$remote_addr`. An IPv4 address in IPv6's clothes is IPv4.
    pub fn node(&self) -> Option<IpAddr> {
        let text = std::str::from_utf8(self.peer.or(self.addr)?).ok()?;
        Some(text.parse::<IpAddr>().ok()?.to_canonical())
    }
}

pub(super) fn line<'a>(format: &Format, text: &'a [u8]) -> Option<Line<'a>> {
    let mut found = Line::default();
    let mut rest = text;
    let (last, firsts) = format.segments.split_last()?;
    for pieces in firsts {
        let end = quote(format.escape, rest)?;
        segment(pieces, &rest[..end], &mut found)?;
        rest = &rest[end + 1..];
    }
    if format.escape != Escape::None && quote(format.escape, rest).is_some() {
        return None; // a quotation mark too many: of another format
    }
    segment(last, rest, &mut found)?;
    Some(found)
}

/// Where the next quotation mark is that belongs to the format.
fn quote(escape: Escape, text: &[u8]) -> Option<usize> {
    let backslashes = |at: usize| text[..at].iter().rev().take_while(|b| **b == b'\\').count();
    memchr::memchr_iter(b'"', text).find(|at| escape != Escape::Json || backslashes(*at) % 2 == 0)
}

/// Reads what stands between two quotation marks: from the left and from the right as far as grammar carries.
fn segment<'a>(pieces: &[Piece], text: &'a [u8], found: &mut Line<'a>) -> Option<()> {
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
    while let [others @ .., last] = pieces
        && !others.is_empty()
    {
        match last {
            Piece::Text(literal) => text = text.strip_suffix(literal.as_slice())?,
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
    middle(pieces, text, found)
}

/// Reads what neither end's grammar reaches: one value that can be anything, or several that only texts part.
fn middle<'a>(pieces: &[Piece], text: &'a [u8], found: &mut Line<'a>) -> Option<()> {
    match pieces {
        [] => text.is_empty().then_some(()),
        [Piece::Var(var)] if !var.is_strict() => set(*var, text, found),
        [Piece::Var(var), Piece::Text(literal), others @ ..] if !var.is_strict() => {
            let at = memmem::find(text, literal)?;
            set(*var, &text[..at], found)?;
            segment(others, &text[at + literal.len()..], found)
        }
        _ => None,
    }
}

/// How long the value of a strict variable at the start of `text` is, `next` being what follows it.
fn length(var: Var, text: &[u8], next: Option<&Piece>) -> Option<usize> {
    if let Some(fixed) = fixed_length(var) {
        return Some(fixed);
    }
    let run = text.iter().take_while(|b| belongs(var, **b)).count();
    match next {
        // `$remote_addr:$remote_port`
        Some(Piece::Text(literal)) if literal.first().is_some_and(|b| belongs(var, *b)) => {
            memchr::memrchr(*literal.first()?, &text[..run])
        }
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
        Var::Method => byte.is_ascii_uppercase() || byte == b'_' || byte == b'-',
        Var::Msec => byte.is_ascii_digit() || byte == b'.',
        _ => byte.is_ascii_digit() || byte == b'.' || byte == b'-',
    }
}

fn set<'a>(var: Var, value: &'a [u8], found: &mut Line<'a>) -> Option<()> {
    match var {
        Var::Addr => found.addr = Some(value),
        Var::PeerAddr => found.peer = Some(value),
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
        Var::Forwarded => found.forwarded = Some(value).filter(|v| !v.is_empty() && *v != b"-"),
        Var::Host => found.host = Some(value).filter(|v| !v.is_empty() && *v != b"-"),
        Var::Number | Var::Other => {}
    }
    Some(())
}

#[cfg(test)]
mod tests;
