//! Limits of this process, getrlimit(2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process have `wanted` open descriptors, or as many as it may.
pub fn raise_descriptors(wanted: u64) {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_some_and(|current| current < wanted) {
        let current = now.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: now.maximum });
    }
}

/// How many descriptors this process may have open.
pub fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether so many more descriptors can be had now. Libraries that need one and get none may end the process.
///
/// # Errors
/// What the system said to one of them.
pub fn room_for(descriptors: usize) -> std::io::Result<()> {
    let null = |_| std::fs::File::open("/dev/null");
    (0..descriptors).map(null).collect::<std::io::Result<Vec<_>>>().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_as_far_as_permitted_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        raise_descriptors(1);
        assert_eq!(getrlimit(Resource::Nofile).current, before.current);
        raise_descriptors(u64::MAX);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum.or(before.current));
    }
}
