//! What happens when there is no memory: the standard library aborts, which leaves a core and no word. This says so
//! and ends with exit code 3.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, which ends the process where there is no memory.
#[derive(Debug)]
pub struct OrExit;

// SAFETY: every call goes to the system's allocator with the caller's arguments; where that returns null this never
// returns.
unsafe impl GlobalAlloc for OrExit {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of GlobalAlloc.
        or_exit(unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_exit(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        or_exit(unsafe { System.realloc(ptr, layout, new_size) })
    }
}

fn or_exit(ptr: *mut u8) -> *mut u8 {
    if ptr.is_null() {
        out_of_memory();
    }
    ptr
}

/// Nothing here needs memory.
#[cold]
fn out_of_memory() -> ! {
    let text = b"agent: out of memory\n";
    // SAFETY: the pointer and the length are those of a static text; _exit(2) runs nothing of ours.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(3)
    }
}
