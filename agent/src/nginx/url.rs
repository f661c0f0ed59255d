//! The URL of `nginx.url`: an address of this machine. A name other than `localhost` would have to be looked up, and
//! that can hang; it goes into `nginx.host`.

use std::net::SocketAddr;

use super::ask::{Address, Endpoint};

/// Where to connect, and the path.
pub(super) fn parse(url: &str) -> Result<(Endpoint, String), String> {
    let wrong = || format!("\"{url}\" is not like http://127.0.0.1:80/path or https://[::1]/");
    let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(wrong()),
    };
    let (addr, path) = match rest.strip_prefix("unix:") {
        // As in nginx's proxy_pass: unix:/path/of/socket:/path/of/request.
        Some(rest) => {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
            (socket.starts_with('/').then(|| Address::Unix(socket.into())).ok_or_else(wrong)?, path)
        }
        None => {
            let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let port = if tls { 443 } else { 80 };
            let numeric = host.replacen("localhost", "127.0.0.1", 1);
            let bare = || numeric.trim_matches(['[', ']']).parse().map(|ip| SocketAddr::new(ip, port));
            let addr = numeric.parse::<SocketAddr>().or_else(|_| bare());
            let name = host.split(':').next().unwrap_or(host);
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
            let addr = addr.map_err(|_| match is_name && name.bytes().any(|b| b.is_ascii_alphabetic()) {
                true => format!(
                    "\"{url}\": name an address, such as 127.0.0.1, and set nginx.host to \"{name}\" for the Host header"
                ),
                false => wrong(),
            })?;
            (Address::Tcp(addr), path)
        }
    };
    if !path.bytes().all(|b| b.is_ascii_graphic()) || path.contains('#') {
        return Err(wrong());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let host = rest
        .strip_prefix("localhost")
        .map(|behind| format!("localhost{}", behind.split(['/', '?']).next().unwrap_or_default()));
    Ok((Endpoint { tls, host, ..Endpoint::http(addr) }, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_this_machine_are_read() {
        for (url, addr, tls, path, host) in [
            ("http://127.0.0.1/", "127.0.0.1:80", false, "/", "127.0.0.1"),
            ("http://localhost:8000/a?b", "127.0.0.1:8000", false, "/a?b", "localhost:8000"),
            ("http://[::1]:81", "[::1]:81", false, "/", "[::1]:81"),
            ("http://[::1]?x", "[::1]:80", false, "/?x", "[::1]"),
            ("https://10.0.0.1/up", "10.0.0.1:443", true, "/up", "10.0.0.1"),
            ("http://unix:/run/x.sock:/up", "unix:/run/x.sock", false, "/up", "localhost"),
            ("http://unix:/run/x.sock", "unix:/run/x.sock", false, "/", "localhost"),
        ] {
            let (endpoint, read) = parse(url).unwrap();
            assert_eq!(
                (endpoint.addr.to_string().as_str(), endpoint.tls, read.as_str(), endpoint.host().as_str()),
                (addr, tls, path, host),
                "{url}"
            );
        }
    }

    #[test]
    fn what_could_hang_or_split_a_request_is_refused() {
        for url in [
            "http://example.com/",
            "127.0.0.1",
            "http://127.0.0.1/a\r\nb",
            "http://",
            "ftp://127.0.0.1/",
            "http://unix:x",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
        assert!(
            parse("https://www.example.com/").unwrap_err().contains("set nginx.host to \"www.example.com\"")
        );
    }
}
