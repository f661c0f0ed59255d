//! Where in a log the last few minutes begin, found by halving: lines are (nearly) in the order of their times.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{Format, Stamp, unwrap_json};

/// Lines are written when a request ends, workers take turns and clocks tick in seconds: this much disorder is normal.
const DISORDER_MS: i64 = 2000;
/// How far one step of the search reads for a line that tells its time.
const REACH: usize = 64 << 10;
/// Below this distance reading is as good as searching.
const CLOSE: u64 = 64 << 10;

/// The offset of a line from which on all lines since `since_ms` follow.
///
/// # Errors
/// When the file can't be read.
pub fn start_of(file: &File, since_ms: i64, formats: &[Format]) -> io::Result<u64> {
    let since_ms = since_ms - DISORDER_MS;
    let (mut early, mut late) = (0, file.metadata()?.len());
    while late - early > CLOSE {
        let middle = early + (late - early) / 2;
        match first_stamp(file, middle, formats)? {
            Some((at, stamp)) if stamp < since_ms && at < late => early = at,
            _ => late = middle,
        }
    }
    Ok(early)
}

/// The first line that begins behind `offset` and says when it was written: where, and when.
fn first_stamp(file: &File, offset: u64, formats: &[Format]) -> io::Result<Option<(u64, i64)>> {
    let mut bytes = vec![0; REACH];
    let n = file.read_at(&mut bytes, offset)?;
    bytes.truncate(n);
    let Some(first) = memchr::memchr(b'\n', &bytes) else { return Ok(None) };
    let mut start = first + 1;
    for line in bytes[start..].split(|b| *b == b'\n') {
        if let Some(stamp) = stamp(line, formats) {
            return Ok(Some((offset + start as u64, stamp.at_ms)));
        }
        start += line.len() + 1;
    }
    Ok(None)
}

fn stamp(line: &[u8], formats: &[Format]) -> Option<Stamp> {
    let read = |line: &[u8]| {
        let exact = formats.iter().find_map(|format| format.parse(line)?.stamp());
        exact.or_else(|| formats.iter().find_map(|format| format.parse_within(line)?.stamp()))
    };
    read(line).or_else(|| read(&unwrap_json(line)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(seconds: std::ops::Range<i64>) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut text = String::new();
        for s in seconds {
            let at =
                jiff::Timestamp::from_second(1_700_000_000 + s).unwrap().strftime("%d/%b/%Y:%H:%M:%S +0000");
            text += &format!("10.0.0.1 - - [{at}] \"GET / HTTP/1.1\" 200 5 \"-\" \"curl\"\n");
        }
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn it_begins_at_a_line_a_little_before_the_time_asked_for() {
        let format = Format::compile("combined").unwrap();
        let file = log(0..20_000);
        let since = 1_700_015_000;
        let at = start_of(&file, since * 1000, std::slice::from_ref(&format)).unwrap();
        let (mut before, mut line) = ([0; 1], vec![0; 200]);
        file.read_exact_at(&mut before, at - 1).unwrap();
        file.read_exact_at(&mut line, at).unwrap();
        let first = line.split(|b| *b == b'\n').next().unwrap();
        let stamp = format.parse(first).unwrap().stamp().unwrap().at_ms / 1000;
        assert!(before == *b"\n" && stamp < since && stamp > since - 2000, "{stamp}");
    }

    #[test]
    fn a_log_that_was_just_rotated_begins_in_the_generation_before() {
        use crate::logtail::{Event, Start, Tail};
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        std::fs::write(dir.path().join("access.log.1"), "1\n2\n3\n").unwrap();
        std::fs::write(&log, "4\n").unwrap();
        let size = |file: &File| Ok(file.metadata()?.len().saturating_sub(4)); // the last two lines
        let mut tail = Tail::new(&log, Start::At(Box::new(size)));
        let mut found = Vec::new();
        tail.look(&mut |event| {
            if let Event::Lines(block) = event {
                found.extend_from_slice(block);
            }
        })
        .unwrap();
        assert_eq!(found, b"2\n3\n4\n");
    }

    #[test]
    fn a_log_that_is_young_or_empty_or_unreadable_begins_at_its_beginning() {
        let format = Format::compile("combined").unwrap();
        assert_eq!(start_of(&log(0..2000), 0, std::slice::from_ref(&format)).unwrap(), 0);
        assert_eq!(start_of(&log(0..0), 0, std::slice::from_ref(&format)).unwrap(), 0);
        let mut garbage = tempfile::tempfile().unwrap();
        garbage.write_all(&[b'x'; 1 << 20]).unwrap();
        assert_eq!(start_of(&garbage, 0, std::slice::from_ref(&format)).unwrap(), 0);
    }
}
