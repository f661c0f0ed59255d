//! Console blocks: finding them, running them, comparing what they show with what is printed.

/// How a block that is run begins.
const OPEN: &str = "```console";
const CLOSE: &str = "```";
/// Stands for lines that aren't shown.
const GAP: &str = "…";

/// A command line and what is printed after it.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    output: Vec<String>,
}

/// The document with what `run` prints where it differs, and a description of each difference.
pub(crate) fn replayed(text: &str, run: impl Fn(&str) -> String) -> (String, Vec<String>) {
    let (mut now, mut wrong) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        now.push(line.to_owned());
        assert!(!line.starts_with("    $ "), "what is run stands in a `console` block: {line}");
        if line != OPEN {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != CLOSE).collect();
        for step in steps(&block) {
            let printed = run(&step.command);
            let shown: Vec<String> = printed.lines().map(|line| line.trim_end().to_owned()).collect();
            now.extend(step.command.lines().enumerate().map(|(n, part)| match n {
                0 => format!("$ {part}"),
                _ => part.to_owned(),
            }));
            if same(&step.output, &shown) {
                now.extend(step.output);
            } else {
                let (old, new) = (step.output.join("\n"), shown.join("\n"));
                wrong.push(format!("$ {}\n--- shown:\n{old}\n--- printed:\n{new}", step.command));
                now.extend(with_gaps(&step.output, shown));
            }
        }
        now.push(CLOSE.to_owned());
    }
    (now.join("\n") + "\n", wrong)
}

/// What is printed, with gaps where lines weren't shown before: a line is known by its first two words.
fn with_gaps(before: &[String], printed: Vec<String>) -> Vec<String> {
    if !before.iter().any(|line| line == GAP) {
        return printed;
    }
    let key = |line: &String| masked(line).into_iter().take(2).collect::<Vec<_>>();
    let known: Vec<_> = before.iter().map(key).collect();
    let shown =
        printed.into_iter().map(|line| if known.contains(&key(&line)) { line } else { GAP.to_owned() });
    let mut lines: Vec<String> = shown.collect();
    lines.dedup_by(|next, line| next == GAP && line == GAP);
    lines
}

/// A document with the fenced blocks of another, in their order.
pub(crate) fn with_blocks_of(text: &str, other: &str) -> String {
    let (own, others) = (fenced(text), fenced(other));
    assert_eq!(own.len(), others.len(), "not the same number of blocks");
    let mut rest = text;
    let mut now = String::new();
    for (own, other) in own.iter().zip(others) {
        let (before, after) = rest.split_once(own.as_str()).expect("its own block");
        now.push_str(before);
        now.push_str(&other);
        rest = after;
    }
    now + rest
}

/// Every fenced block of a document.
fn fenced(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with(CLOSE) {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != CLOSE).collect();
            blocks.push(format!("{line}\n{}\n{CLOSE}\n", block.join("\n")));
        }
    }
    blocks
}

fn steps(block: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for line in block {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            (None, Some(step)) if goes_on => step.command = format!("{}\n{line}", step.command),
            (None, Some(step)) => step.output.push((*line).to_owned()),
            (None, None) => panic!("a block begins with a command: {line}"),
        }
        goes_on = line.ends_with('\\');
    }
    steps
}

/// Whether the words are the same; where lines are broken doesn't matter, as figures differ in length.
fn same(shown: &[String], printed: &[String]) -> bool {
    let (shown, printed) = (words(shown), words(printed));
    let parts: Vec<&[String]> = shown.split(|word| word == GAP).collect();
    let [first, middle @ .., last] = &parts[..] else { return shown == printed };
    if parts.len() == 1 {
        return shown == printed;
    }
    let Some(mut rest) = printed.strip_prefix(*first) else { return false };
    for part in middle.iter().filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|window| window == *part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The masked words. Lines that say the same one after the other are one: a run may touch one minute or two.
fn words(lines: &[String]) -> Vec<String> {
    let mut masked: Vec<Vec<String>> = lines.iter().map(|line| masked(line)).collect();
    masked.dedup();
    masked.concat()
}

/// The words of a line: marks of a timeline are `~`, a time is `T`, any other number is `N`; frames and bars are left out.
fn masked(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let line: String = line.chars().filter(|letter| !('\u{2500}'..='\u{259f}').contains(letter)).collect();
    for word in line.split_whitespace() {
        let marks = word.chars().all(|letter| "·.xX_".contains(letter));
        let word = if marks { "~".to_owned() } else { without_numbers(word) };
        let unit = word.trim_end_matches([',', ')', ';', ':']);
        match words.last_mut() {
            Some(last) if last.ends_with('N') && ["ms", "s", "µs", "min", "h"].contains(&unit) => {
                *last = format!("{}T{}", last.trim_end_matches('N'), &word[unit.len()..]);
            }
            Some(last) if marks && last == "~" => {}
            _ => words.push(word),
        }
    }
    words
}

/// Days and months as dates have them.
const DATES: [&str; 19] = [
    "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
    "Sep", "Oct", "Nov", "Dec",
];

/// `N` for each number, whatever stands in it: 5.001, 17:30:57, 2026-11-27, 50,000.
fn without_numbers(word: &str) -> String {
    let mut text = String::new();
    if DATES.contains(&word.trim_end_matches(',')) {
        return "N".to_owned();
    }
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            text.push(letter);
            continue;
        }
        let mut after = letters.clone();
        while let Some(next) = after.next() {
            let joins = ".:,-".contains(next) && after.clone().next().is_some_and(|c| c.is_ascii_digit());
            if !next.is_ascii_digit() && !joins {
                break;
            }
            letters.next();
        }
        text.push('N');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn figures_differ_and_words_do_not() {
        let shown = lines("ok after 40 ms at 17:30:57.416Z (2 of 3)\n  18:47 99.9 % busy");
        assert!(same(
            &shown,
            &lines("ok after 1.2 s at 17:31:00.408Z (12 of 3)\n  18:47 9 % busy\n  18:48 8 % busy")
        ));
        assert!(!same(&shown, &lines("no after 40 ms at 17:30:57.416Z (2 of 3)\n  18:47 99.9 % busy")));
        assert!(!same(&shown, &lines("ok after 40 ms at 17:30:57.416Z (2 of 3)")));
        assert!(same(&lines("a  ....xxx...   ..."), &lines("a  ..xxxx......")));
    }

    #[test]
    fn a_gap_stands_for_any_lines_but_not_for_those_around_it() {
        let shown = lines("a 1\n…\nc 2\n…\ne");
        assert!(same(&shown, &lines("a 7\nx\nc 3\ny\nz\ne")));
        assert!(!same(&shown, &lines("a 7\nx\ny\nz\ne")));
        assert!(!same(&shown, &lines("a 7\nx\nc 3\ny\nz")));
    }

    #[test]
    fn what_was_not_shown_before_is_not_shown_then() {
        let before = lines("…\nend at 5 s\n  yes a");
        let printed = lines("x 1\ny 2\nend at 6 s, late\n  yes b\nz");
        assert_eq!(with_gaps(&before, printed), lines("…\nend at 6 s, late\n…"));
    }

    #[test]
    fn what_differs_is_written_and_the_rest_is_left() {
        let text = "Text\n```console\n$ one \\\n  more\nold 1\n$ two\nsame 1\n```\n```sh\n$ three\n```\n";
        let (now, wrong) = replayed(text, |command| match command {
            "one \\\n  more" => "new 2\n".to_owned(),
            "two" => "same 2\n".to_owned(),
            _ => panic!("{command}"),
        });
        assert_eq!(now, text.replace("old 1", "new 2"));
        assert_eq!(wrong.len(), 1);
        let other = "Texte\n```console\n$ uno\n```\nPlus\n```sh\n$ tre\n```\nFin\n";
        let both = with_blocks_of(other, text);
        assert_eq!(fenced(&both), fenced(text));
        assert!(
            both.starts_with("Texte\n```console\n$ one") && both.ends_with("$ three\n```\nFin\n"),
            "{both}"
        );
    }
}
