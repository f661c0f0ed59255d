//! What serde says of a wrong value, in the words of who wrote it.

/// What serde calls a type, what people call it.
const EXPECTED: [(&str, &str); 13] = [
    ("usize", "a whole number, 0 or more"),
    ("u64", "a whole number, 0 or more"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u16", "a whole number from 0 to 65535"),
    ("u8", "a whole number from 0 to 255"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a string", "text in quotes"),
    ("string or table", "text in quotes"),
    ("a sequence", "a list, as [\"a\", \"b\"]"),
    ("path string", "a path in quotes"),
    ("a borrowed string", "text in quotes"),
];

/// One line without the names that Rust has for its types.
pub(super) fn in_plain_words(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((got, expected)) = message.split_once(", expected ") else {
        return message
            .replace("unknown field", "unknown setting")
            .replace("unknown variant", "unknown value");
    };
    let got = got.strip_prefix("invalid type: ").or_else(|| got.strip_prefix("invalid value: "));
    let Some(got) = got else {
        return message
            .replace("unknown field", "unknown setting")
            .replace("unknown variant", "unknown value");
    };
    let got = ["string ", "integer ", "floating point ", "boolean "]
        .iter()
        .find_map(|kind| got.strip_prefix(kind))
        .unwrap_or(match got {
            "sequence" => "a list",
            "map" | "table" => "a section",
            other => other,
        });
    let wanted = expected.strip_prefix("struct ").map(|_| "a section of settings");
    let wanted =
        wanted.or_else(|| EXPECTED.iter().find(|(name, _)| *name == expected).map(|(_, words)| *words));
    format!("{} is not {}", got.replace('`', ""), wanted.unwrap_or(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_that_people_give_them() {
        for (said, plain) in [
            ("invalid type: string \"x\", expected usize", "\"x\" is not a whole number, 0 or more"),
            ("invalid type: string \"x\", expected u32", "\"x\" is not a whole number from 0 to 4294967295"),
            ("invalid value: integer `-1`, expected u16", "-1 is not a whole number from 0 to 65535"),
            ("invalid type: integer `1`, expected a boolean", "1 is not true or false"),
            ("invalid type: sequence, expected a string", "a list is not text in quotes"),
            ("invalid type: string \"a\",\nexpected struct Serve", "\"a\" is not a section of settings"),
            ("unknown field `x`, expected `a`", "unknown setting `x`, expected `a`"),
            ("unknown variant `x`, expected one of `a`, `b`", "unknown value `x`, expected one of `a`, `b`"),
            ("\"soon\" is no duration", "\"soon\" is no duration"),
        ] {
            assert_eq!(in_plain_words(said), plain);
        }
    }
}
