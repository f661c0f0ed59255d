//! The environment that a process was started with, also where it has since written a title over it.
//!
//! `/proc/PID/environ` shows the memory that the kernel put the variables into, and nginx writes its title there. But
//! it first moves the variables away and bends the kernel's own pointers to where they are now
//! (`ngx_init_setproctitle`, src/os/unix/ngx_setproctitle.c). Those pointers stand where a process starts its life:
//! the number of arguments, a pointer to each, a null, a pointer to each variable, a null (System V ABI, "Initial
//! Stack and Register State"); proc_pid_stat(5) has the place as `startstack`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Longer environments are nobody's; a page less than what the kernel takes for one string (`MAX_ARG_STRLEN`).
pub const MAX_BYTES: usize = 124 << 10;
/// More pointers than that are not an environment.
const MAX_POINTERS: u64 = 8192;
const WORD: u64 = size_of::<usize>() as u64;

/// The variables of a process, each `NAME=VALUE` with a NUL behind it, as in `/proc/PID/environ`.
///
/// # Errors
/// When its memory may not be read or isn't as the kernel laid it out (a process of another word size).
pub fn of(pid: i32) -> io::Result<Vec<u8>> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    let start = start_of_stack(&stat).ok_or_else(|| odd("its stat is not as documented"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let count = word(&memory, start)?;
    if count == 0 || count > MAX_POINTERS {
        return Err(odd("its stack does not begin with its arguments"));
    }
    let first = (count + 2).checked_mul(WORD).and_then(|skip| start.checked_add(skip));
    let mut at = first.ok_or_else(|| odd("its stack ends too soon"))?;
    let mut all = Vec::new();
    for _ in 0..MAX_POINTERS {
        match word(&memory, at)? {
            0 => return Ok(all),
            variable => append(&memory, variable, &mut all)?,
        }
        at += WORD;
    }
    Err(odd("its environment has no end"))
}

/// Field 28; the name before the fields may hold anything, and ends with the last bracket.
fn start_of_stack(stat: &[u8]) -> Option<u64> {
    let name_ends = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
    fields.split_ascii_whitespace().nth(25)?.parse().ok().filter(|start| *start != 0)
}

fn word(memory: &File, at: u64) -> io::Result<u64> {
    let mut bytes = [0; size_of::<usize>()];
    memory.read_exact_at(&mut bytes, at)?;
    Ok(usize::from_ne_bytes(bytes) as u64)
}

/// Appends the string at `at` with its NUL.
fn append(memory: &File, mut at: u64, all: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut chunk = [0; 256];
        // What is mapped may end behind the string; a read then gives what there is.
        let n = memory.read_at(&mut chunk, at)?;
        let chunk = chunk.get(..n).filter(|c| !c.is_empty()).ok_or_else(|| odd("a variable has no end"))?;
        let (text, ended) = match chunk.iter().position(|b| *b == 0) {
            Some(end) => (chunk.get(..=end).unwrap_or(chunk), true),
            None => (chunk, false),
        };
        all.extend_from_slice(text);
        if all.len() > MAX_BYTES {
            return Err(odd("its environment is too large"));
        }
        if ended {
            return Ok(());
        }
        at += n as u64;
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_has_the_variables_that_it_was_started_with() {
        let long = "x".repeat(1000);
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").env_clear().env("A", "1").env("LONG", &long).spawn().unwrap();
        let all = of(child.id().cast_signed());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(all.unwrap(), format!("A=1\0LONG={long}\0").into_bytes());
    }

    #[test]
    fn where_the_stack_is_not_told_nothing_is_read() {
        assert_eq!(start_of_stack(b"7 (a) b) S 1"), None);
        assert!(of(0).is_err());
    }
}
