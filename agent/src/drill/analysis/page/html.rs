//! HTML by hand: text is escaped where it goes in, so that nothing off the network is ever markup. Pure.

use std::fmt::Write as _;

/// Text, or the value of an attribute in quotes.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A cell of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    key: Option<&'static str>,
}

impl Cell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), key: None }
    }

    /// A figure that programs find by its key.
    pub fn keyed(text: impl Into<String>, key: &'static str) -> Self {
        Self { text: text.into(), key: Some(key) }
    }
}

/// A table whose first column names its rows. On a narrow screen each row stands as a block of its own, with the heads
/// beside their cells: nothing is ever scrolled off.
pub fn table(caption: &str, heads: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut html = format!("<table><caption>{}</caption><thead><tr>", escaped(caption));
    for head in heads {
        let head =
            if head.is_empty() { "<span class=\"unseen\">what</span>".to_owned() } else { escaped(head) };
        let _ = write!(html, "<th scope=\"col\">{head}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let key = cell.key.map_or_else(String::new, |key| format!(" data-key=\"{key}\""));
            let text = escaped(&cell.text);
            match (place, heads.get(place)) {
                (0, _) => {
                    let _ = write!(html, "<th scope=\"row\"{key}>{text}</th>");
                }
                (_, head) => {
                    let head = escaped(head.copied().unwrap_or_default());
                    let _ = write!(html, "<td data-head=\"{head}\"{key}>{text}</td>");
                }
            }
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
    html
}

/// A part of the page with its heading.
pub fn section(title: &str, content: &str) -> String {
    format!("<section><h2>{}</h2>{content}</section>", escaped(title))
}

/// A paragraph.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let hostile = "</td><script>alert('1')</script>\"&";
        let html = table("c", &["a", hostile], &[vec![Cell::text("x"), Cell::keyed(hostile, "k")]]);
        assert_eq!(html.matches("<script").count(), 0, "{html}");
        assert_eq!(html.matches('"').count() % 2, 0);
        assert!(html.contains("<th scope=\"row\">x</th>") && html.contains("data-key=\"k\""));
    }
}
