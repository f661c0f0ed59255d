//! Every request of a drill, in the order in which they ended: a few in memory, the others in a file that has no name and goes
//! with the process. So a day at a thousand requests a second takes the memory of a minute, and nothing is left out of a
//! figure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sample::{Class, Outcome, Sample, Stream};

/// So many are kept in memory before any goes to the file: the drills that people watch need none.
const IN_MEMORY: usize = 1 << 18;
/// As many go to the file at once: a write into the kernel's cache that no request is late for.
const CHUNK: usize = 1 << 13;
/// Bytes of one in the file.
pub const BYTES: usize = 20;
/// Where the file can't be written, as many are kept in memory; then the drill has to end.
const WITHOUT_FILE: usize = 5_000_000;
/// A request may be entered so much after others that ended later.
const SLACK: Duration = Duration::from_secs(1);

/// Where large files of a short life go: not `/tmp`, which is memory on many systems.
pub fn folder() -> PathBuf {
    std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// How many bytes so many requests take in the file.
pub fn bytes(requests: u64) -> u64 {
    if requests > IN_MEMORY as u64 { requests.saturating_mul(BYTES as u64) } else { 0 }
}

/// All of them.
#[derive(Debug)]
pub struct Samples {
    young: Vec<Sample>,
    /// As many are kept in memory.
    most: usize,
    folder: PathBuf,
    file: Option<File>,
    /// How many are in the file.
    filed: usize,
    errors: u64,
    /// The longest that a request took.
    longest: Duration,
    /// The latest that one was sent.
    latest: Duration,
    trouble: Option<String>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            young: Vec::new(),
            most: IN_MEMORY,
            folder: folder(),
            file: None,
            filed: 0,
            errors: 0,
            longest: Duration::ZERO,
            latest: Duration::ZERO,
            trouble: None,
        }
    }
}

impl Samples {
    /// Takes one in.
    pub fn push(&mut self, sample: Sample) {
        self.errors += u64::from(!sample.is_ok());
        self.longest = self.longest.max(sample.latency());
        self.latest = self.latest.max(sample.late());
        self.young.push(sample);
        if self.young.len() < self.most || self.trouble.is_some() {
            return;
        }
        match self.file() {
            // From now on little is kept in memory.
            Ok(()) => self.most = CHUNK.min(self.most),
            Err(e) => {
                let folder = self.folder.display();
                self.trouble =
                    Some(format!("requests can't be kept in a file in {folder} (TMPDIR names another): {e}"));
            }
        }
    }

    /// Puts those in memory into the file.
    fn file(&mut self) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(nameless(&self.folder)?),
        };
        let bytes: Vec<u8> = self.young.iter().flat_map(encoded).collect();
        file.write_all_at(&bytes, (self.filed * BYTES) as u64)?;
        self.filed += self.young.len();
        self.young.clear();
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.filed + self.young.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many failed.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How late the latest was sent.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// Why no more can be taken in, once that is so.
    pub fn full(&self) -> Option<&str> {
        self.trouble.as_deref().filter(|_| self.young.len() >= WITHOUT_FILE)
    }

    /// In the order in which they ended.
    pub fn iter(&self) -> Iter<'_> {
        Iter { all: self, next: 0, read: Vec::new(), first: 0 }
    }

    /// In the order in which they were sent. Of those in the file only so many are held at a time as may have overtaken each
    /// other: none took longer than the longest.
    pub fn by_start(&self) -> Box<dyn Iterator<Item = Sample> + '_> {
        if self.filed == 0 {
            let mut all = self.young.clone();
            all.sort_by_key(|one| one.start_us);
            return Box::new(all.into_iter());
        }
        let overtaken = u64::try_from((self.longest + SLACK).as_micros()).unwrap_or(u64::MAX);
        Box::new(ByStart { rest: self.iter(), held: BinaryHeap::new(), overtaken, ended: 0 })
    }
}

impl Extend<Sample> for Samples {
    fn extend<T: IntoIterator<Item = Sample>>(&mut self, all: T) {
        all.into_iter().for_each(|one| self.push(one));
    }
}

/// A file that nobody else can open, and that is gone with us.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC).open(folder) {
        Ok(file) => return Ok(file),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) => {}
        Err(e) => return Err(e),
    }
    // A file system that can't: it has a name for a moment.
    let path = folder.join(format!("asg-agent-drill-{}", std::process::id()));
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// See [`Samples::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    all: &'a Samples,
    next: usize,
    /// What was read of the file, from the sample `first` on.
    read: Vec<u8>,
    first: usize,
}

impl Iterator for Iter<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let at = self.next;
        self.next += 1;
        let Some(left) = self.all.filed.checked_sub(at).filter(|left| *left > 0) else {
            return self.all.young.get(at - self.all.filed).copied();
        };
        if at >= self.first + self.read.len() / BYTES {
            self.read.resize(left.min(CHUNK) * BYTES, 0);
            self.first = at;
            let file = self.all.file.as_ref()?;
            // What was written a moment ago can be read, or the disk is broken: then the rest is missing.
            file.read_exact_at(&mut self.read, (at * BYTES) as u64).ok()?;
        }
        let from = (at - self.first) * BYTES;
        decoded(self.read.get(from..from + BYTES)?)
    }
}

/// See [`Samples::by_start`].
struct ByStart<'a> {
    rest: Iter<'a>,
    held: BinaryHeap<Reverse<(u64, usize, Sample)>>,
    /// As long before a request that ended now another that ends later may have been sent.
    overtaken: u64,
    /// When the newest ended.
    ended: u64,
}

impl Iterator for ByStart<'_> {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        loop {
            if self.held.peek().is_some_and(|Reverse((start, ..))| start + self.overtaken <= self.ended) {
                break;
            }
            let Some(one) = self.rest.next() else { break };
            self.ended = self.ended.max(one.end_us);
            self.held.push(Reverse((one.start_us, self.rest.next, one)));
        }
        self.held.pop().map(|Reverse((.., one))| one)
    }
}

const KEPT: u8 = 1;
const OWN: u8 = 2;
const FAILED: u8 = 4;
const NAMED: u8 = 8;

/// Six bytes of microseconds are eight years; how late a request was and how long it took fit into four (71 minutes).
fn encoded(one: &Sample) -> [u8; BYTES] {
    let mut to = [0; BYTES];
    let short = |us: u64| u32::try_from(us).unwrap_or(u32::MAX).to_le_bytes();
    let (failed, outcome) = match one.outcome {
        Outcome::Status(status) => (0, status),
        Outcome::Failed(class) => (FAILED, class as u16),
    };
    let flags = if one.stream == Stream::Kept { KEPT } else { 0 }
        | if one.own { OWN } else { 0 }
        | if one.instance.is_some() { NAMED } else { 0 }
        | failed;
    to[..6].copy_from_slice(&one.start_us.to_le_bytes()[..6]);
    to[6..10].copy_from_slice(&short(one.start_us.saturating_sub(one.due_us)));
    to[10..14].copy_from_slice(&short(one.end_us.saturating_sub(one.start_us)));
    to[14..16].copy_from_slice(&one.node.to_le_bytes());
    to[16..18].copy_from_slice(&outcome.to_le_bytes());
    (to[18], to[19]) = (one.instance.unwrap_or(0), flags);
    to
}

fn decoded(from: &[u8]) -> Option<Sample> {
    let long = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let short = |bytes: &[u8]| u16::try_from(long(bytes)).ok();
    let start_us = long(from.get(..6)?);
    let outcome = short(from.get(16..18)?)?;
    let flags = *from.get(19)?;
    Some(Sample {
        due_us: start_us.saturating_sub(long(from.get(6..10)?)),
        start_us,
        end_us: start_us + long(from.get(10..14)?),
        node: short(from.get(14..16)?)?,
        instance: (flags & NAMED != 0).then_some(*from.get(18)?),
        stream: if flags & KEPT != 0 { Stream::Kept } else { Stream::New },
        outcome: match flags & FAILED {
            0 => Outcome::Status(outcome),
            _ => Outcome::Failed(*Class::ALL.get(usize::from(outcome))?),
        },
        own: flags & OWN != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that look random: many overtake others.
    fn some(count: u64) -> Vec<Sample> {
        let mut all: Vec<Sample> = (0..count)
            .map(|n| {
                let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                let class = Class::ALL[(z % 7) as usize];
                Sample {
                    due_us: n * 1000,
                    start_us: n * 1000 + z % 50,
                    end_us: n * 1000 + z % 50 + z % 5_000_000,
                    node: (z % 3) as u16,
                    instance: (z % 2 == 0).then_some((z % 256) as u8),
                    stream: if z % 5 < 2 { Stream::Kept } else { Stream::New },
                    outcome: if z % 11 == 0 {
                        Outcome::Failed(class)
                    } else {
                        Outcome::Status(200 + (z % 400) as u16)
                    },
                    own: z % 13 == 0,
                }
            })
            .collect();
        all.sort_by_key(|one| one.end_us);
        all
    }

    #[test]
    fn what_went_to_the_file_comes_back_as_it_was_in_either_order() {
        let all = some(40_000);
        let mut filed = Samples { most: 100, ..Samples::default() };
        filed.extend(all.clone());
        assert!(filed.filed > 39_000 && filed.young.len() <= 100);
        assert_eq!((filed.len(), filed.iter().collect::<Vec<_>>() == all), (all.len(), true));
        let mut memory = Samples { most: usize::MAX, ..Samples::default() };
        memory.extend(all);
        assert_eq!(memory.filed, 0);
        let starts = |all: &Samples| all.by_start().map(|one| one.start_us).collect::<Vec<_>>();
        assert!(starts(&filed) == starts(&memory));
        assert_eq!((filed.errors(), filed.latest()), (memory.errors(), memory.latest()));
    }

    #[test]
    fn without_a_file_they_stay_in_memory_and_the_reason_is_known() {
        let mut all = Samples { most: 10, folder: "/nonexistent".into(), ..Samples::default() };
        all.extend(some(50));
        assert_eq!((all.len(), all.iter().count()), (50, 50));
        assert!(all.trouble.as_ref().is_some_and(|why| why.contains("/nonexistent")) && all.full().is_none());
    }
}
