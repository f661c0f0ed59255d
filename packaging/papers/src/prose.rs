//! The written part of a manual page, from `pages/NAME.md`: what no docstring and no `--help` holds.
//!
//! The part of Markdown that these pages use: headings, paragraphs, lists, tables, fenced blocks, `**bold**`, `code`, and
//! links. A page says the same on a code-hosting site and in `man`.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// A section: its title in capitals, and its body as roff.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// The sections of a page; none where nothing is written for it.
pub(crate) fn sections(name: &str) -> anyhow::Result<Vec<Section>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pages").join(format!("{name}.md"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(parsed(&text))
}

/// Text before the first section is for who reads the Markdown.
fn parsed(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            sections.push(Section { title: title.to_uppercase(), body: String::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else { continue };
        let body = &mut section.body;
        if let Some(title) = line.strip_prefix("### ") {
            body.push_str(&format!(".SS {}\n", inline(title)));
        } else if line.starts_with("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            body.push_str(&literal(&block));
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(row);
            }
            body.push_str(&table(&rows));
        } else if !line.trim().is_empty() {
            let mut whole = line.to_owned();
            let goes_on = |line: &&str| !line.trim().is_empty() && !line.starts_with(['-', '|', '#', '`']);
            while let Some(more) = lines.next_if(goes_on) {
                whole.push(' ');
                whole.push_str(more.trim());
            }
            match whole.strip_prefix("- ") {
                Some(item) => body.push_str(&format!(".IP \\(bu 2\n{}\n", inline(item))),
                None => body.push_str(&format!(".PP\n{}\n", inline(&whole))),
            }
        }
    }
    sections
}

/// Lines that stay lines.
fn literal(lines: &[&str]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| guarded(&plain(line))).collect();
    format!(".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", lines.join("\n"))
}

/// A row is its first cell, and the others below it with what their columns are.
fn table(rows: &[&str]) -> String {
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let head = rows.first().map(|row| cells(row)).unwrap_or_default();
    let mut text = String::new();
    for row in rows.iter().skip(2).map(|row| cells(row)) {
        let Some((first, others)) = row.split_first() else { continue };
        let others: Vec<String> = match others {
            [one] => vec![one.clone()],
            many => {
                many.iter().zip(head.iter().skip(1)).map(|(cell, head)| format!("{head}: {cell}")).collect()
            }
        };
        text.push_str(&format!(".TP\n.B {}\n{}\n", inline(first), inline(&others.join(". "))));
    }
    text
}

/// Bold, code and links of a text that is filled. A link to another page is named; any other shows its address.
fn inline(text: &str) -> String {
    let mut rest = text;
    let mut linked = String::new();
    while let Some((before, after)) = rest.split_once("](") {
        let (Some((text, name)), Some((address, behind))) = (before.rsplit_once('['), after.split_once(')'))
        else {
            break;
        };
        linked.push_str(text);
        linked.push_str(name);
        if !address.ends_with(".md") {
            linked.push_str(&format!(" <{address}>"));
        }
        rest = behind;
    }
    linked.push_str(rest);
    let mut roff = String::new();
    for (n, part) in linked.split("**").enumerate() {
        match n % 2 {
            1 => roff.push_str(&format!("\\fB{}\\fR", code(part))),
            _ => roff.push_str(&code(part)),
        }
    }
    guarded(&roff)
}

fn code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(n, part)| if n % 2 == 1 { format!("\\fB{}\\fR", plain(part)) } else { plain(part) }).collect()
}

/// Characters that roff would take for its own.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A line that no formatter takes for a request.
pub(crate) fn guarded(text: &str) -> String {
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_becomes_sections_whose_blocks_stay_lines() {
        let text = "# x(1)\nFor who reads this.\n\n## How it ends\nOne\ntwo `--a`.\n\n- **b**: see [y(1)](y.md)\n  too\n\
                    - c\n\n```console\n$ x -a\n.out\n```\n";
        let body = ".PP\nOne two \\fB\\-\\-a\\fR.\n.IP \\(bu 2\n\\fBb\\fR: see y(1) too\n.IP \\(bu 2\nc\n\
                    .PP\n.RS 4\n.nf\n$ x \\-a\n\\&.out\n.fi\n.RE\n";
        assert_eq!(parsed(text), [Section { title: "HOW IT ENDS".into(), body: body.into() }]);
    }

    #[test]
    fn a_table_becomes_a_list_that_names_its_columns() {
        let two = table(&["| a | b |", "|---|---|", "| `x` | y |"]);
        assert_eq!(two, ".TP\n.B \\fBx\\fR\ny\n");
        let three = table(&["| a | b | c |", "|---|---|---|", "| x | y | z |"]);
        assert_eq!(three, ".TP\n.B x\nb: y. c: z\n");
    }
}
