//! The log of the kernel's dm-log-writes target (Documentation/admin-guide/device-mapper/log-writes.rst and
//! drivers/md/dm-log-writes.c, Linux 6.1): every write to a device in the order in which a disk with a cache makes them
//! durable, with the flushes. Applied up to a flush, they give the device as a power cut there leaves it.

use std::io::{self, Read, Seek, SeekFrom, Write};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
/// sector, nr_sectors, flags, data_len.
const HEADER: usize = 4 * 8;

/// What was written, in order.
#[derive(Debug)]
pub(crate) struct Log<R> {
    from: R,
    sector: u64,
    left: u64,
}

/// One write, flush, discard or mark.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Bytes at an offset; `synced` where they were flushed with what came before, or by themselves.
    Write { at: u64, bytes: Vec<u8>, synced: bool },
    /// A flush alone.
    Flush,
    /// A range that is not needed any more.
    Discard { at: u64, length: u64 },
    /// `dmsetup message … mark TEXT`.
    Mark(String),
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn number(bytes: &[u8], index: usize) -> u64 {
    bytes.chunks_exact(8).nth(index).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl<R: Read + Seek> Log<R> {
    /// Opens a log.
    ///
    /// # Errors
    /// When it isn't one.
    pub(crate) fn open(mut from: R) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        if number(&header, 0) != MAGIC || number(&header, 1) != VERSION {
            return Err(wrong("no log of dm-log-writes"));
        }
        let sector = number(&header, 3) & u64::from(u32::MAX);
        if !(512..=65536).contains(&sector) {
            return Err(wrong("a log with sectors of no size"));
        }
        from.seek(SeekFrom::Start(sector))?;
        Ok(Self { from, sector, left: number(&header, 2) })
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// When the log is cut off.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let mut block = vec![0; self.sector as usize];
        self.from.read_exact(&mut block)?;
        let [at, sectors, flags, length] = [0, 1, 2, 3].map(|index| number(&block, index));
        if flags & MARK != 0 {
            let text = block.get(HEADER..HEADER + length as usize).ok_or_else(|| wrong("a mark too long"))?;
            return Ok(Some(Entry::Mark(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())));
        }
        let (at, length) = (at * self.sector, sectors * self.sector);
        if flags & DISCARD != 0 {
            return Ok(Some(Entry::Discard { at, length }));
        }
        if length == 0 {
            return Ok(Some(Entry::Flush));
        }
        let mut bytes = vec![0; length as usize];
        self.from.read_exact(&mut bytes)?;
        Ok(Some(Entry::Write { at, bytes, synced: flags & (FLUSH | FUA) != 0 }))
    }
}

impl Entry {
    /// Applies it to the device.
    ///
    /// # Errors
    /// When that can't be written.
    pub(crate) fn apply(&self, device: &mut (impl Write + Seek)) -> io::Result<()> {
        match self {
            Self::Write { at, bytes, .. } => {
                device.seek(SeekFrom::Start(*at))?;
                device.write_all(bytes)
            }
            Self::Discard { at, length } => {
                device.seek(SeekFrom::Start(*at))?;
                io::copy(&mut io::repeat(0).take(*length), device).map(drop)
            }
            Self::Flush | Self::Mark(_) => Ok(()),
        }
    }

    /// Whether what was written before it is durable once it is.
    pub(crate) fn is_boundary(&self) -> bool {
        matches!(self, Self::Flush | Self::Write { synced: true, .. })
    }

    /// Whether it changes the device.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn entry(at: u64, sectors: u64, flags: u64, data: &[u8]) -> Vec<u8> {
        let mark = if flags & MARK != 0 { data.len() as u64 } else { 0 };
        let mut block: Vec<u8> = [at, sectors, flags, mark].iter().flat_map(|n| n.to_le_bytes()).collect();
        if flags & MARK != 0 {
            block.extend(data);
        }
        block.resize(512, 0);
        if flags & MARK == 0 {
            block.extend(data);
        }
        block
    }

    fn log(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut all: Vec<u8> =
            [MAGIC, VERSION, entries.len() as u64, 512].iter().flat_map(|n| n.to_le_bytes()).collect();
        all.resize(512, 0);
        all.extend(entries.concat());
        all
    }

    #[test]
    fn entries_come_in_their_order_and_give_the_device_as_it_was() {
        let bytes = log(&[
            entry(1, 1, 0, &[7; 512]),
            entry(0, 0, FLUSH, &[]),
            entry(0, 0, MARK, b"begin"),
            entry(0, 2, FLUSH | FUA, &[9; 1024]),
            entry(1, 1, DISCARD, &[]),
        ]);
        let mut log = Log::open(Cursor::new(bytes)).unwrap();
        let mut device = Cursor::new(vec![0; 1024]);
        let mut boundaries = Vec::new();
        while let Some(entry) = log.next().unwrap() {
            entry.apply(&mut device).unwrap();
            boundaries.push(entry.is_boundary());
            if entry == Entry::Mark("begin".into()) {
                assert_eq!(device.get_ref()[..], [[0; 512], [7; 512]].concat()[..]);
            }
        }
        assert_eq!(boundaries, [false, true, false, true, false]);
        assert_eq!(device.get_ref()[..], [[9; 512], [0; 512]].concat()[..]);
    }

    #[test]
    fn what_is_no_log_or_is_cut_off_is_an_error() {
        assert!(Log::open(Cursor::new(vec![0; 512])).is_err());
        let mut bytes = log(&[entry(1, 1, 0, &[7; 512])]);
        bytes.truncate(1500);
        assert!(Log::open(Cursor::new(bytes)).unwrap().next().is_err());
    }
}
