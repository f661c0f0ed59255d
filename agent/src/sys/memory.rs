//! How much memory is in use, and giving back what only the start needed.
#![allow(unsafe_code)]

use std::path::Path;

use rustix::mm::{Advice, madvise};

/// The machine's used memory in percent, caches not counted, as `meminfo` below `proc` tells (proc_meminfo(5));
/// `None` where it doesn't.
pub fn used_pct(proc: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(proc.join("meminfo")).ok()?;
    let kib = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
        line?.trim().parse::<f64>().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    (total > 0.0).then(|| 100.0 - 100.0 * available / total)
}

/// How much more address space this process may have (`ulimit -v`, RLIMIT_AS); `None` where that isn't limited.
pub fn address_space_left() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kib: u64 = size.trim().split(' ').next()?.parse().ok()?;
    Some(limit.saturating_sub(kib << 10))
}

/// Returns to the system the heap that is free again, malloc_trim(3).
#[cfg(target_env = "gnu")]
pub fn release_heap() {
    // SAFETY: takes no pointer; the allocator locks itself.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves, or can't.
#[cfg(not(target_env = "gnu"))]
pub fn release_heap() {}

/// Lets go of the pages of program code and of its constants that are in memory, of this program and of its libraries:
/// most of it was needed for the start alone, and what is still needed comes back from the page cache when it is used.
/// Of a daemon that rests, these pages are the larger part of the resident set.
pub fn release_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: the range is a mapping of this process that holds code (r-xp) or the beginning of a program's file
        // and was never written to: after MADV_DONTNEED the same bytes are read from that file again, madvise(2).
        let _ = unsafe { madvise(start, length, Advice::LinuxDontNeed) };
    }
}

/// The start and the length of a mapping of code, or of the constants before it, proc_pid_maps(5). Only those at the
/// beginning of their file: others may be data that the linker has relocated and then made read-only.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, flags, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let file = fields.nth(2)?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let begins = offset.bytes().all(|digit| digit == b'0');
    let clean = flags == "r-xp" || flags == "r--p" && begins;
    (clean && file.starts_with('/')).then(|| (start, end.saturating_sub(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_can_be_had_is_not_in_use() {
        let proc = tempfile::tempdir().unwrap();
        let meminfo = |text: &str| std::fs::write(proc.path().join("meminfo"), text).unwrap();
        meminfo("MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n");
        assert_eq!(used_pct(proc.path()), Some(60.0));
        meminfo("MemTotal:        1000 kB\n");
        assert_eq!(used_pct(proc.path()), None);
    }

    #[test]
    fn only_code_of_files_is_let_go() {
        let line = |flags: &str, file: &str| format!("1000-3000 {flags} 00001000 fe:00 12345    {file}");
        let first = "0000-1000 r--p 00000000 fe:00 12345    /usr/bin/agent";
        assert_eq!(code(first), Some((0, 0x1000)));
        assert_eq!(code(&line("r-xp", "/usr/bin/agent")), Some((0x1000, 0x2000)));
        assert_eq!(code(&line("r--p", "/usr/bin/agent")), None, "relocated data would be lost");
        assert_eq!(code(&line("rw-p", "/usr/bin/agent")), None);
        assert_eq!(code(&line("r-xp", "[vdso]")), None);
        assert_eq!(code("1000-3000 r-xp 00000000 00:00 0"), None);
    }

    #[test]
    fn the_program_goes_on_without_them() {
        release_code();
        assert_eq!(format!("{:?}", vec![1, 2]), "[1, 2]");
    }
}
