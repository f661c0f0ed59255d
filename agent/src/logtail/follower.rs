//! One file, followed by its descriptor: whatever becomes of its name, its bytes come out once. What was read is
//! remembered by a fingerprint of the file's beginning and of the bytes before our place, as a size alone can't tell
//! that a file was truncated and has grown again.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use rustix::fs::OFlags;

use super::lines::Lines;

/// How many bytes each fingerprint covers: several lines, whose timestamps make them unlike any other.
pub(super) const WINDOW: usize = 512;
const OPEN: i32 = OFlags::NONBLOCK.bits().cast_signed() | OFlags::NOCTTY.bits().cast_signed();

/// A file's identity while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct FileId {
    /// The device.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
}

impl FileId {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino() }
    }
}

/// A hash of some bytes of a file, small enough to be kept over a restart (FNV-1a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Print {
    /// How many bytes.
    pub len: usize,
    /// Of them.
    pub hash: u64,
}

impl Print {
    /// The print of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self { len: bytes.len(), hash: bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold) }
    }

    /// The print of a file's first bytes, as far as they are whole lines: half a line is like any other.
    pub(super) fn of_head(bytes: &[u8]) -> Self {
        let whole =
            if bytes.len() < WINDOW { memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1) } else { WINDOW };
        Self::of(bytes.get(..whole).unwrap_or_default())
    }

    /// Whether `file` has such bytes at `at`.
    pub(super) fn is_at(self, file: &File, at: u64) -> io::Result<bool> {
        Ok(self.len <= WINDOW && Self::of(&bytes_at(file, at, self.len)?) == self)
    }
}

/// What is remembered of a file: which it is, how far it was read, what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    /// The file.
    #[serde(flatten)]
    pub id: FileId,
    /// Up to here it was read.
    pub offset: u64,
    /// Its first bytes.
    pub head: Print,
    /// The bytes before `offset`.
    pub tail: Print,
}

impl Place {
    /// Whether `file` begins as this one does. A hole has no face: behind one, the place itself must fit too.
    pub(super) fn begins(&self, file: &File) -> io::Result<bool> {
        let blank = Print::of(&[0; WINDOW][..self.head.len.min(WINDOW)]) == self.head;
        Ok(self.head.len > 0
            && self.head.is_at(file, 0)?
            && (!blank || (self.tail.len > 0 && self.fits(file)?)))
    }

    /// Whether `file` has the bytes that were read, whatever its inode.
    pub(super) fn fits(&self, file: &File) -> io::Result<bool> {
        let len = self.tail.len as u64;
        Ok(self.offset > 0
            && self.head.is_at(file, 0)?
            && self.offset >= len
            && self.tail.is_at(file, self.offset - len)?)
    }
}

/// Opens a regular file without ever waiting for it; `None` when there is none.
///
/// # Errors
/// When it isn't a regular file, with what it is instead, or when it can't be opened.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if is_missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    irregular(&meta).map_or(Ok(()), |kind| Err(io::Error::other(kind)))?;
    let file = match OpenOptions::new().read(true).custom_flags(OPEN).open(path) {
        Ok(file) => file,
        Err(e) if is_missing(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    irregular(&file.metadata()?).map_or(Ok(Some(file)), |kind| Err(io::Error::other(kind)))
}

/// No such file, or a folder on the way that is none (yet).
fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn irregular(meta: &Metadata) -> Option<&'static str> {
    let kind = meta.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("it is a folder: name the log in it")
    } else if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        Some("it is a pipe or a terminal, which only its reader sees: let nginx log to a file (access_log)")
    } else {
        Some("it is no regular file")
    }
}

/// How a look at a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// All was read that is there.
    AtEnd,
    /// The file no longer holds what was read of it: it was truncated, and may have grown again.
    Truncated,
}

/// A followed file.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) offset: u64,
    pub(super) lines: Lines,
    /// Nobody will write to it any more: it is done with once it was read.
    pub(super) finished: bool,
    /// When it last had something new.
    pub(super) busy: Instant,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Follower {
    /// Follows `file` from `offset` on.
    pub(super) fn at(file: File, offset: u64) -> io::Result<Self> {
        let id = FileId::of(&file.metadata()?);
        let window = usize::try_from(offset).unwrap_or(usize::MAX).min(WINDOW);
        let head = bytes_at(&file, 0, window)?;
        let tail = bytes_at(&file, offset - window as u64, window)?;
        Ok(Self {
            file,
            id,
            offset,
            lines: Lines::default(),
            finished: false,
            busy: Instant::now(),
            head,
            tail,
        })
    }

    /// Where it stands, its unfinished line not counted as read.
    pub(super) fn place(&self) -> Place {
        let unfinished = self.lines.unfinished();
        let offset = self.offset.saturating_sub(unfinished as u64);
        let head = self.head.get(..usize::try_from(offset).unwrap_or(WINDOW)).unwrap_or(&self.head);
        let tail = self.tail.get(..self.tail.len().saturating_sub(unfinished)).unwrap_or_default();
        Place { id: self.id, offset, head: Print::of_head(head), tail: Print::of(tail) }
    }

    /// Where reading stands, the unfinished line included.
    pub(super) fn reached(&self) -> Place {
        Place {
            id: self.id,
            offset: self.offset,
            head: Print::of_head(&self.head),
            tail: Print::of(&self.tail),
        }
    }

    /// Reads to the end, handing on whole lines.
    pub(super) fn read(&mut self, sink: &mut dyn FnMut(&[u8])) -> io::Result<Ended> {
        loop {
            let space = self.lines.space();
            let room = space.len();
            let n = self.file.read_at(space, self.offset)?;
            // Checked after reading: had the file been truncated before, these bytes would be of another age.
            if !self.holds_what_was_read()? {
                return Ok(Ended::Truncated);
            }
            if n > 0 {
                self.take(n, sink)?;
            }
            if n < room {
                return Ok(Ended::AtEnd);
            }
        }
    }

    fn take(&mut self, n: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let fresh = self.lines.fresh(n);
        let hole = fresh.ends_with(b"\0") && fresh.iter().all(|b| *b == 0);
        if self.head.len() < WINDOW && self.head.len() as u64 == self.offset {
            let missing = WINDOW - self.head.len();
            self.head.extend_from_slice(&fresh[..n.min(missing)]);
        }
        let kept = n.min(WINDOW);
        let surplus = (self.tail.len() + kept).saturating_sub(WINDOW);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend_from_slice(&fresh[n - kept..]);
        self.lines.commit(n, sink);
        self.offset += n as u64;
        self.busy = Instant::now();
        if hole {
            self.skip_hole()?;
        }
        Ok(())
    }

    /// Jumps over a hole at our place, which may be of any size (lseek(2), `SEEK_DATA`).
    fn skip_hole(&mut self) -> io::Result<()> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.offset)) {
            Ok(data) if data > self.offset => {
                let window = usize::try_from(data).unwrap_or(WINDOW).min(WINDOW);
                self.tail = bytes_at(&self.file, data - window as u64, window)?;
                self.offset = data;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn holds_what_was_read(&self) -> io::Result<bool> {
        if !has_at(&self.file, self.offset - self.tail.len() as u64, &self.tail)? {
            return Ok(false);
        }
        Ok(self.offset <= WINDOW as u64 || has_at(&self.file, 0, &self.head)?)
    }

    /// After a truncation: goes on where what hasn't been read begins. That is at 0, unless only the end was cut off,
    /// as the lines that are still there show.
    pub(super) fn start_again(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let now = bytes_at(&self.file, 0, self.head.len())?;
        let common = now.iter().zip(&self.head).take_while(|(a, b)| a == b).count();
        let whole_lines = memchr::memrchr(b'\n', &self.head[..common]).map_or(0, |at| at + 1);
        // Beyond our window nobody knows where it was cut: what is there now may have been read.
        let from = if common == WINDOW && whole_lines > 0 { size } else { whole_lines as u64 };
        let overlong = self.lines.overlong;
        *self = Self::at(self.file.try_clone()?, from)?;
        self.lines.overlong = overlong;
        Ok(())
    }
}

/// Whether `file` has these bytes (at most a window of them) at `at`.
fn has_at(file: &File, at: u64, expected: &[u8]) -> io::Result<bool> {
    let mut bytes = [0; WINDOW];
    let Some(bytes) = bytes.get_mut(..expected.len()) else { return Ok(false) };
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => return Ok(false),
            n => done += n,
        }
    }
    Ok(bytes == expected)
}

/// The bytes of `file` at `at`, fewer than `len` where it ends before.
pub(super) fn bytes_at(file: &File, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}
