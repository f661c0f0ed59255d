//! A thread's own table of file descriptors.
#![allow(unsafe_code)]

use std::fs;

use nix::sched::{CloneFlags, unshare};

/// Gives the calling thread a table of its own, with nothing in it but the standard streams: sockets and files that the
/// rest of the process closes are closed, even while this thread hangs in the kernel. Where that can't be had (a filter
/// of system calls), the thread shares the table as before.
pub fn leave() {
    if unshare(CloneFlags::CLONE_FILES).is_err() {
        return;
    }
    let ours = fs::read_dir("/proc/thread-self/fd").into_iter().flatten().flatten();
    let ours: Vec<i32> = ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in ours.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: the table is this thread's alone, and the thread owns nothing of what is in it: what others own is
        // theirs in their own table.
        unsafe { libc::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_the_rest_of_the_process_closes_is_closed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (left, has_left) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            leave();
            left.send(()).unwrap();
            let _ = goes.recv();
        });
        has_left.recv().unwrap();
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the thread has it no more");
        drop(go);
        thread.join().unwrap();
    }
}
