//! Looking up the name of a listener. The resolver may hang, and whoever asks must not: it gets so much time.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// A name in `/etc/hosts` takes no time at all.
const LIMIT: Duration = Duration::from_millis(500);

/// The first address of `name`, where it is known in time.
pub(super) fn resolve(name: &str, port: u16) -> Option<SocketAddr> {
    let (tell, told) = mpsc::channel();
    let name = name.to_owned();
    let look_up = move || {
        let found = (name.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next());
        let _ = tell.send(found);
    };
    std::thread::Builder::new().name("resolve".into()).stack_size(128 << 10).spawn(look_up).ok()?;
    told.recv_timeout(LIMIT).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_this_machine_is_found_and_an_impossible_one_is_not() {
        assert!(resolve("localhost", 80).is_some_and(|addr| addr.ip().is_loopback() && addr.port() == 80));
        assert_eq!(resolve("no such name", 80), None);
    }
}
