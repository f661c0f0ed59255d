//! Bytes become lines. What is handed on are blocks of whole lines, so that a reader who wants one line in fifty
//! can search the block instead of looking at each.

/// How much is read at once: fits a core's second-level cache, makes the system calls disappear, and is
/// little for a daemon to keep.
const BLOCK: usize = 64 << 10;
/// The same while there is more than that to read: what a read costs besides its bytes is spread over more of them.
const LARGE_BLOCK: usize = 256 << 10;
/// Reads in a row that were smaller, after which the larger block is given back: where lines come in bites of about this
/// size, memory doesn't come and go with each.
const SMALL_READS: u32 = 64;
/// The longest line that comes out. nginx's header buffers allow far less (`large_client_header_buffers`).
pub const MAX_LINE: usize = 1 << 20;

/// A buffer with the unfinished line in front. Its memory is bounded: a line that never ends is counted and skipped.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buf: Vec<u8>,
    filled: usize,
    skipping: bool,
    /// Reads in a row that were smaller than a block.
    small: u32,
    /// Lines longer than [`MAX_LINE`], which were skipped.
    pub(super) overlong: u64,
}

impl Lines {
    /// Room for the next bytes of the file.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.filled == self.buf.len() {
            let limit = MAX_LINE + BLOCK;
            if self.buf.len() >= limit {
                self.skipping = true;
                self.overlong += 1;
                self.filled = 0;
            } else if self.buf.is_empty() {
                self.buf = vec![0; BLOCK]; // untouched pages cost nothing
            } else {
                self.buf.resize((self.buf.len() * 2).min(limit), 0);
            }
        }
        &mut self.buf[self.filled..]
    }

    /// The bytes that stand in [`Lines::space`] after a read of `n`, before they are committed.
    pub(super) fn fresh(&self, n: usize) -> &[u8] {
        self.buf.get(self.filled..self.filled + n).unwrap_or_default()
    }

    /// Takes in the first `n` bytes of the space; hands on the whole lines, each with its line break.
    pub(super) fn commit(&mut self, n: usize, mut sink: impl FnMut(&[u8])) {
        let end = (self.filled + n).min(self.buf.len());
        let full = end == self.buf.len();
        self.small = if full || n >= BLOCK { 0 } else { self.small.saturating_add(1) };
        let mut start = 0;
        if self.skipping {
            match memchr::memchr(b'\n', &self.buf[..end]) {
                None => return self.filled = 0,
                Some(at) => start = at + 1,
            }
            self.skipping = false;
        }
        let searched = start.max(self.filled);
        self.filled = end;
        if let Some(at) = memchr::memrchr(b'\n', &self.buf[searched..end]) {
            let whole = searched + at + 1;
            sink(&self.buf[start..whole]);
            start = whole;
        }
        // A NUL is never written by nginx: it is a hole, left by a truncation under a writer that kept its place.
        // What stands before it will never be finished.
        if self.buf[start..end].ends_with(b"\0") {
            start = end;
        }
        self.buf.copy_within(start..end, 0);
        self.filled = end - start;
        if self.filled < BLOCK / 2 {
            self.fit(full);
        }
    }

    /// Takes as much memory as what is read lately needs.
    fn fit(&mut self, full: bool) {
        if full && self.buf.len() < LARGE_BLOCK {
            self.buf.resize(LARGE_BLOCK, 0);
        } else if self.buf.len() > LARGE_BLOCK || self.small >= SMALL_READS && self.buf.len() > BLOCK {
            let len = if self.small >= SMALL_READS { BLOCK } else { LARGE_BLOCK };
            self.buf.truncate(len);
            self.buf.shrink_to_fit();
        }
    }

    /// How many bytes of an unfinished line are held.
    pub(super) fn unfinished(&self) -> usize {
        self.filled
    }

    /// Gives up the unfinished line.
    pub(super) fn reset(&mut self) {
        self.filled = 0;
        self.skipping = false;
    }

    /// Hands on what is left as a line: for a file that nobody will write to any more.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(&[u8])) {
        if self.filled > 0 && !self.skipping {
            sink(&self.buf[..self.filled]);
        }
        self.reset();
    }

    /// Frees the memory while nothing is expected.
    pub(super) fn rest(&mut self) {
        if self.filled == 0 {
            self.buf = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(lines: &mut Lines, mut bytes: &[u8], step: usize, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let space = lines.space();
            let n = bytes.len().min(step).min(space.len());
            space[..n].copy_from_slice(&bytes[..n]);
            lines.commit(n, |block| {
                assert!(block.ends_with(b"\n"));
                out.extend_from_slice(block);
            });
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn a_line_of_a_mebibyte_comes_out_and_an_endless_one_is_skipped_in_bounded_memory() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        let mut long = vec![b'x'; MAX_LINE];
        long.push(b'\n');
        feed(&mut lines, &long, 4096, &mut out);
        assert_eq!(out.len(), long.len());
        out.clear();
        for _ in 0..64 {
            feed(&mut lines, &[b'y'; MAX_LINE], 100_000, &mut out);
            assert!(lines.buf.len() <= MAX_LINE + BLOCK);
        }
        feed(&mut lines, b"end\nnext\n", 3, &mut out);
        assert_eq!((out.as_slice(), lines.overlong), (&b"next\n"[..], 1));
        assert!(lines.buf.len() <= LARGE_BLOCK);
        (0..SMALL_READS).for_each(|_| feed(&mut lines, b"small\n", 6, &mut out));
        assert_eq!(lines.buf.len(), BLOCK, "the memory is given back");
    }

    #[test]
    fn a_hole_of_nuls_swallows_neither_memory_nor_the_line_behind_it() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        feed(&mut lines, b"cut off", 9, &mut out);
        feed(&mut lines, &vec![0; 3 * MAX_LINE], 70_000, &mut out);
        assert_eq!(lines.unfinished(), 0);
        feed(&mut lines, b"\0\0whole\n", 9, &mut out);
        assert_eq!((out.as_slice(), lines.overlong), (&b"\0\0whole\n"[..], 0));
    }

    proptest! {
        #[test]
        fn every_byte_up_to_the_last_line_break_comes_out_once(bytes in "([a-c]{0,9}\n|[a-c])*", step in 1..9_usize) {
            let mut lines = Lines::default();
            let mut out = Vec::new();
            feed(&mut lines, bytes.as_bytes(), step, &mut out);
            let whole = bytes.rfind('\n').map_or(0, |at| at + 1);
            prop_assert_eq!(&out, &bytes.as_bytes()[..whole]);
            lines.finish(|rest| out.extend_from_slice(rest));
            prop_assert_eq!(&out, bytes.as_bytes());
        }
    }
}
