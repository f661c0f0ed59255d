//! Base64 (RFC 4648), in which command lines and what they say travel over a line.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Encodes.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(*three.get(i).unwrap_or(&0)));
        let digit = |i: usize| match i <= three.len() {
            true => DIGITS.get((bits >> (18 - 6 * i)) as usize & 63).copied().map_or('=', char::from),
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// Decodes; what is no digit is passed over.
pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    let digits = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let digits: Vec<u32> = digits.map(|digit| digit as u32).collect();
    let group = |four: &[u32]| {
        let bits = (0..4).fold(0, |bits, i| bits << 6 | four.get(i).unwrap_or(&0));
        let bytes = [bits >> 16, bits >> 8, bits].map(|byte| byte as u8);
        bytes.into_iter().take(four.len().saturating_sub(1)).collect::<Vec<_>>()
    };
    digits.chunks(4).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|t| base64(t.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
        let all: Vec<u8> = (0..=255).collect();
        for length in 0..all.len() {
            assert_eq!(from_base64(&base64(&all[..length])), all[..length]);
        }
    }
}
