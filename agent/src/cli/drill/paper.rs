//! Sentences and tables of a drill, no wider than the terminal: a sentence goes on in the next line, and a table that has no
//! room is told row by row. Where stdout is no terminal nothing is broken.

use super::live::columns;
use crate::cli::output::Output;

/// A column: its head, and at least how wide it is; below zero to the left, zero for the last one's text.
pub(super) type Column<'a> = (&'a str, isize);

/// A sentence.
pub(super) fn say(out: &mut Output, text: &str) {
    for line in broken(text, columns()) {
        out.text(&line);
    }
}

/// A table.
pub(super) fn table(out: &mut Output, heads: &[Column<'_>], rows: &[Vec<String>]) {
    for line in drawn(heads, rows, columns()) {
        out.text(&line);
    }
}

fn drawn(heads: &[Column<'_>], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let names: Vec<String> = heads.iter().map(|(name, _)| (*name).to_owned()).collect();
    let all: Vec<String> = [&names].into_iter().chain(rows).map(|row| line(heads, row)).collect();
    let Some(width) = width.filter(|width| all.iter().any(|line| visible(line) > *width)) else { return all };
    let mut told: Vec<String> =
        names.first().into_iter().flat_map(|head| broken(head, Some(width))).collect();
    for row in rows {
        for (place, ((name, _), text)) in heads.iter().zip(row).enumerate() {
            let text = match (place, name.is_empty()) {
                (0, _) | (_, true) => text.clone(),
                _ => format!("  {name:<12} {text}"),
            };
            if !text.trim().is_empty() {
                told.extend(broken(&text, Some(width)));
            }
        }
    }
    told
}

fn line(heads: &[Column<'_>], row: &[String]) -> String {
    let mut line = String::new();
    for ((_, wide), text) in heads.iter().zip(row) {
        if !line.is_empty() {
            line.push_str(if *wide == 0 { "   " } else { " " });
        }
        let room = wide.unsigned_abs();
        let padded = if *wide > 0 { format!("{text:>room$}") } else { format!("{text:<room$}") };
        line.push_str(&padded);
    }
    line.trim_end().to_owned()
}

/// How many columns a text takes: colours take none.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut colour = false;
    for c in text.chars() {
        match c {
            '\x1b' => colour = true,
            'm' if colour => colour = false,
            _ if colour => {}
            _ => count += 1,
        }
    }
    count
}

/// The lines of a text: at spaces where it can be, and further in from the second on.
fn broken(text: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.filter(|width| visible(text) > *width) else { return vec![text.to_owned()] };
    let start = text.chars().take_while(|c| *c == ' ').count();
    let inner = " ".repeat((start + 2).min(width / 4));
    let mut lines = Vec::new();
    let mut line = " ".repeat(start.min(width / 4));
    for word in text.trim_start().split(' ') {
        // Beginning a line, or after another word.
        let empty = line.trim().is_empty();
        let gap = usize::from(!empty);
        if visible(&line) + gap + visible(word) <= width {
            line.push_str(if empty { "" } else { " " });
            line.push_str(word);
            continue;
        }
        if !empty {
            lines.push(std::mem::replace(&mut line, inner.clone()).trim_end().to_owned());
        }
        for c in word.chars() {
            if visible(&line) >= width && c != '\x1b' {
                lines.push(std::mem::replace(&mut line, inner.clone()));
            }
            line.push(c);
        }
    }
    lines.push(line.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "  no          outage 12.0 s, predicted 5.0 to 10.0 s (tolerance −0.2 +0.5 s) at [2001:db8:1234:5678:9abc:def0:1234:5678]:443";

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_word_is_lost() {
        for width in 1..120 {
            for text in [TEXT, "", "x", "\x1b[31mno\x1b[0m          it was too late for all of them"] {
                let lines = broken(text, Some(width));
                assert!(lines.iter().all(|line| visible(line) <= width), "{width}: {lines:?}");
                let bare = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
                assert_eq!(bare(&lines.concat()), bare(text));
            }
        }
        assert_eq!(broken(TEXT, None), [TEXT]);
    }

    #[test]
    fn a_table_without_room_is_told_row_by_row() {
        let heads = [("node", -22), ("requests", 8), ("outage", 9), ("failed with", 0)];
        let row = ["10.0.1.11:80", "1200", "5.2 s", "502 ×99"].map(str::to_owned).to_vec();
        let wide = drawn(&heads, std::slice::from_ref(&row), Some(60));
        assert_eq!(
            wide,
            [
                "node                   requests    outage   failed with",
                "10.0.1.11:80               1200     5.2 s   502 ×99"
            ]
        );
        assert_eq!(
            drawn(&heads, &[row], Some(40)),
            ["node", "10.0.1.11:80", "  requests     1200", "  outage       5.2 s", "  failed with  502 ×99"]
        );
    }
}
