//! Addresses of listeners, as people write them: `127.0.0.1:8081`, `[::1]:8081`.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

/// Reads an address and a port, for clap and for settings.
///
/// # Errors
/// One line that says what would be right.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| {
        let bare = text.trim_start_matches(':').trim_start_matches("localhost:");
        let right = match bare.parse::<u16>() {
            Ok(port) => {
                format!("0.0.0.0:{port} for every address, or 127.0.0.1:{port} for this machine alone")
            }
            Err(_) => "ADDRESS:PORT, as 0.0.0.0:8080 or [::1]:8080".to_owned(),
        };
        format!("\"{text}\" is no address with a port: write {right}")
    })
}

/// For `#[serde(deserialize_with)]`.
///
/// # Errors
/// As [`parse_address`].
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_address(&text).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_gets_one_that_works() {
        for (text, right) in [
            (":8080", "0.0.0.0:8080"),
            ("8080", "0.0.0.0:8080"),
            ("localhost:81", "127.0.0.1:81"),
            ("nowhere", "ADDRESS:PORT"),
            ("1.2.3.4", "ADDRESS:PORT"),
            ("::1:80:", "ADDRESS:PORT"),
        ] {
            let message = parse_address(text).unwrap_err();
            assert!(message.contains(right), "{message}");
        }
        assert!(parse_address("[::1]:80").is_ok() && parse_address(" 1.2.3.4:5").is_ok());
    }
}
