//! The head of an HTTP/1 answer, as far as it has come. The status line is the answer; the headers behind it only tell
//! whether the connection can be kept.

/// A head may be so long until it is no longer waited for.
const MAX_HEAD: usize = 64 << 10;
/// `HTTP/1.1 200` and what ends it.
const SHORTEST: usize = 13;

/// What has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Not enough to tell.
    Incomplete,
    /// The status is known, the headers aren't complete.
    Status(u16),
    /// All of it, and whether the server keeps the connection and nothing follows.
    Complete(u16, bool),
    /// Something else.
    NotHttp,
}

/// Reads what has come. Interim answers (1xx, RFC 9110 §15.2) are passed over.
pub(super) fn read(bytes: &[u8]) -> Head {
    let mut rest = bytes;
    loop {
        let Some((status, minor)) = status_line(rest) else {
            let start = b"HTTP/1.";
            let common = rest.len().min(start.len());
            let may_be = rest.get(..common) == start.get(..common) && rest.len() < SHORTEST;
            return if may_be { Head::Incomplete } else { Head::NotHttp };
        };
        let interim = (100..200).contains(&status) && status != 101;
        match end_of_head(rest) {
            Some(end) if interim => rest = rest.get(end..).unwrap_or_default(),
            Some(end) => {
                let kept = minor == 1 && end == rest.len() && !closes(rest);
                return Head::Complete(status, kept);
            }
            None if interim && rest.len() < MAX_HEAD => return Head::Incomplete,
            None if interim => return Head::NotHttp,
            None if rest.len() < MAX_HEAD => return Head::Status(status),
            None => return Head::Complete(status, false),
        }
    }
}

/// `HTTP/1.x NNN`, followed by something: the status and x.
fn status_line(bytes: &[u8]) -> Option<(u16, u8)> {
    let rest = bytes.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..4)?;
    let (status, behind) = digits.split_at(3);
    let ends = matches!(behind, [b' ' | b'\r' | b'\n']);
    let status = std::str::from_utf8(status).ok()?.parse().ok().filter(|s| (100..1000).contains(s))?;
    (ends && minor.is_ascii_digit()).then_some((status, minor - b'0'))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let find = |end: &[u8]| memchr::memmem::find(bytes, end).map(|at| at + end.len());
    match (find(b"\r\n\r\n"), find(b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn closes(head: &[u8]) -> bool {
    head.split(|b| *b == b'\n').any(|line| {
        let mut parts = line.splitn(2, |b| *b == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().to_ascii_lowercase();
        name.eq_ignore_ascii_case(b"connection") && memchr::memmem::find(&value, b"close").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_status_line_is_the_answer() {
        assert_eq!(read(b""), Head::Incomplete);
        assert_eq!(read(b"HTTP/1.1 20"), Head::Incomplete);
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nServer: nginx\r\n"), Head::Status(200));
        assert_eq!(read(b"HTTP/1.1 404 Not Found\r\n\r\n"), Head::Complete(404, true));
        assert_eq!(read(b"HTTP/1.1 501 \r\n\r\n"), Head::Complete(501, true));
        assert_eq!(read(b"SSH-2.0-OpenSSH_9\r\n"), Head::NotHttp);
        assert_eq!(read(b"HTTP/1.1 2000 \r\n\r\n"), Head::NotHttp);
        assert_eq!(read(&b"HTTP/1.1".repeat(20)), Head::NotHttp);
    }

    #[test]
    fn an_interim_answer_is_not_final() {
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(read(early), Head::Incomplete);
        assert_eq!(
            read(&[early.as_slice(), b"HTTP/1.1 503 Busy\r\n\r\n"].concat()),
            Head::Complete(503, true)
        );
        assert_eq!(read(b"HTTP/1.1 100 Continue\r\n"), Head::Incomplete);
    }

    #[test]
    fn many_and_long_headers_are_still_http() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "Set-Cookie: a=b\r\n".repeat(500));
        assert_eq!(read(many.as_bytes()), Head::Complete(200, true));
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(MAX_HEAD));
        assert_eq!(read(endless.as_bytes()), Head::Complete(200, false));
    }

    #[test]
    fn a_connection_is_kept_only_where_the_server_keeps_it() {
        for head in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nbody",
        ] {
            assert_eq!(read(head.as_bytes()), Head::Complete(200, false), "{head}");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"), Head::Complete(200, true));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), http: bool) {
            let all = if http { [b"HTTP/1.1 200 ".as_slice(), &bytes].concat() } else { bytes };
            let _ = read(&all);
        }
    }
}
