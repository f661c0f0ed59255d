//! Cleartext HTTP/2 with prior knowledge (RFC 9113 §3.3): one request, and the status of its answer. Of HPACK
//! (RFC 7541) only what that takes: literals without indexing out, the first field of the answer in.

/// What the client sends first, RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// What has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frames {
    /// Nothing that tells anything.
    Incomplete,
    /// Its settings: HTTP/2 is spoken there.
    Spoke,
    /// The status of the answer.
    Status(u16),
    /// The stream was refused or the connection given up, with no status.
    Ended,
    /// Something else.
    NotHttp2,
}

/// The bytes of one request; `headers` are names and values besides.
pub(super) fn request(method: &str, path: &str, host: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    // Names by their index in the static table, RFC 7541 appendix A.
    for (index, value) in [(2, method), (6, "http"), (4, path), (1, host)] {
        integer(&mut block, 0, 4, index);
        string(&mut block, value);
    }
    for (name, value) in headers {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    let mut out = PREFACE.to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    frame(&mut out, HEADERS, END_STREAM | END_HEADERS, 1, &block);
    out
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(length.get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// An integer with a prefix of `bits` bits, RFC 7541 §5.1.
fn integer(out: &mut Vec<u8>, pattern: u8, bits: u32, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut left = value - most;
    while left >= 128 {
        out.push(left as u8 & 0x7f | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn string(out: &mut Vec<u8>, text: &str) {
    integer(out, 0, 7, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Reads what has come.
pub(super) fn read(bytes: &[u8]) -> Frames {
    let mut rest = bytes;
    let mut seen = Frames::Incomplete;
    while let [a, b, c, kind, flags, s0, s1, s2, s3, behind @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let stream = u32::from_be_bytes([*s0 & 0x7f, *s1, *s2, *s3]);
        // The server's first frame is its settings, which are short.
        if seen == Frames::Incomplete && (*kind != SETTINGS || stream != 0 || length > 16 << 10) {
            return Frames::NotHttp2;
        }
        let Some((payload, next)) = behind.split_at_checked(length) else { break };
        match (*kind, stream) {
            (HEADERS, 1) => match status(payload, *flags) {
                Some(status) if (100..200).contains(&status) => {}
                Some(status) => return Frames::Status(status),
                None => return Frames::Ended,
            },
            (RST_STREAM, 1) => return Frames::Ended,
            // Not for a graceful end, behind which the answer may still come.
            (GOAWAY, 0) if payload.get(4..8) != Some(&[0; 4]) => return Frames::Ended,
            _ => seen = Frames::Spoke,
        }
        rest = next;
    }
    // Fewer bytes than a frame's head may already not be one.
    let text = seen == Frames::Incomplete && matches!(rest.first(), Some(byte) if *byte != 0);
    if text { Frames::NotHttp2 } else { seen }
}

/// The `:status` of a header block: its first field, behind changes of the table's size.
fn status(payload: &[u8], flags: u8) -> Option<u16> {
    let skip = usize::from(flags & PADDED != 0) + if flags & PRIORITY != 0 { 5 } else { 0 };
    let mut block = payload.get(skip..)?;
    while let [first, rest @ ..] = block
        && first >> 5 == 1
    {
        let more = if first & 0x1f == 0x1f { rest.iter().position(|b| b & 0x80 == 0)? + 1 } else { 0 };
        block = rest.get(more..)?;
    }
    match block {
        // Indexed, RFC 7541 appendix A.
        [index @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500].get(usize::from(index - 0x88)).copied()
        }
        // A literal whose name has one of these indices: with, without and never indexed.
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, 3, digits @ ..] => {
            std::str::from_utf8(digits.get(..3)?).ok()?.parse().ok()
        }
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, length, code @ ..] if length & 0x80 != 0 => {
            huffman_digits(code.get(..usize::from(length & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits in HPACK's Huffman code (RFC 7541 appendix B): 0, 1 and 2 in five bits, the others in six.
fn huffman_digits(code: &[u8]) -> Option<u16> {
    let mut bits = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut value = 0;
        for _ in 0..5 {
            value = value << 1 | bits.next()?;
        }
        let digit = match value {
            0..=2 => value,
            12..=15 => (value << 1 | bits.next()?).checked_sub(22).filter(|d| (3..=9).contains(d))?,
            _ => return None,
        };
        number = number * 10 + digit;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(block: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(&mut out, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 128]);
        frame(&mut out, SETTINGS, 1, 0, &[]);
        frame(&mut out, HEADERS, END_HEADERS, 1, block);
        out
    }

    #[test]
    fn a_status_is_read_in_every_encoding() {
        assert_eq!(read(&answer(&[0x88])), Frames::Status(200));
        assert_eq!(read(&answer(&[0x20, 0x8e, 0x61])), Frames::Status(500));
        assert_eq!(read(&answer(b"\x48\x03503\x00")), Frames::Status(503));
        assert_eq!(read(&answer(b"\x08\x03301")), Frames::Status(301));
        // 503: 011011 00000 011001, padded with ones.
        assert_eq!(read(&answer(&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111])), Frames::Status(503));
        assert_eq!(read(&answer(b"\x08\x03103")), Frames::Spoke);
    }

    #[test]
    fn settings_alone_tell_that_it_is_spoken_and_text_that_it_is_not() {
        let all = answer(&[0x88]);
        assert_eq!(read(&all[..8]), Frames::Incomplete);
        assert_eq!(read(&all[..15]), Frames::Spoke);
        assert_eq!(read(b"HTTP/1.1 400 Bad Request\r\n"), Frames::NotHttp2);
        assert_eq!(read(b"H"), Frames::NotHttp2);
        let mut refused = answer(&[0x88]);
        refused.truncate(15);
        frame(&mut refused, RST_STREAM, 0, 1, &[0, 0, 0, 7]);
        assert_eq!(read(&refused), Frames::Ended);
    }

    #[test]
    fn integers_are_those_of_the_specification() {
        let mut out = Vec::new();
        integer(&mut out, 0, 5, 1337); // RFC 7541 C.1.2
        assert_eq!(out, [0b1_1111, 0b1001_1010, 0b1010]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), block: bool) {
            let _ = read(&if block { answer(&bytes) } else { bytes });
        }
    }
}
