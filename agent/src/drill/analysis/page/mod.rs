//! The report as one page of HTML that needs nothing else, scripts neither: it is drawn here. Everything that came off the
//! network is text in it, never markup; the data stands in a block of JSON in which no `<` is left.

pub mod chart;
mod failover;
pub mod html;
mod scale;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use failover::failover;
pub use scale::scale;

use super::about::About;
use super::latency::PhaseReport;
use super::verdict::{Answer, Verdict};
use crate::drill::client::sample::{Book, Outcome, Stream};
use html::{Cell, escaped, section, table};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("download.js");
/// More answers than this aren't put into a page, nor more errors: a browser would choke. Beyond it is every n-th.
const MOST_ROWS: usize = 50_000;

/// The whole page.
fn page(title: &str, content: &str, result: &Value, book: &Book) -> String {
    let (requests, rows) = requests(book, MOST_ROWS);
    let data = embedded(&json!({"result": result, "requests": requests}));
    let (all, errors) = (book.samples().len(), book.samples().errors());
    let note = if rows == all {
        format!("{all} requests.")
    } else if errors <= MOST_ROWS as u64 {
        format!("{all} requests; {rows} of them are in this file: every error, and a part of the answers.")
    } else {
        format!("{all} requests; {rows} of them are in this file: a part of the errors and of the answers.")
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; \
         style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>{content}\
         <section id=\"download\"><h2>Data</h2><p data-key=\"rows\">{note}</p></section></main>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        escaped(title)
    )
}

/// Questions and their answers, each reason with its own.
fn cards(questions: &[(&str, &str, Option<&Verdict>)]) -> String {
    let mut html = "<div class=\"cards\">".to_owned();
    for (question, key, verdict) in questions {
        let Some(verdict) = verdict else { continue };
        let class = match verdict.answer {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "unknown",
        };
        let mut reasons: String = verdict
            .reasons
            .iter()
            .map(|reason| format!("<li><b>{}</b> {}</li>", reason.answer.word(), escaped(&reason.text)))
            .collect();
        if let Some(hint) = &verdict.hint {
            reasons.push_str(&format!("<li>{}</li>", escaped(hint)));
        }
        html.push_str(&format!(
            "<div class=\"card {class}\"><h2>{}</h2><b class=\"answer\" data-key=\"{key}\">{}</b><ul>{reasons}</ul></div>",
            escaped(question),
            verdict.answer.word()
        ));
    }
    html.push_str("</div>");
    html
}

/// When it began.
fn started(about: &About) -> Timestamp {
    about.started.parse().unwrap_or_default()
}

fn secs(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| format!("{:.3} s", ms / 1e3))
}

fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"))
}

fn latency(phases: &[PhaseReport]) -> String {
    let row = |phase: &PhaseReport| {
        vec![
            Cell::text(phase.phase.name()),
            Cell::text(secs(Some(phase.start_ms))),
            Cell::text(secs(Some(phase.end_ms))),
            Cell::text(phase.requests.to_string()),
            Cell::text(phase.errors.to_string()),
            Cell::keyed(millis(phase.p50_ms), "p50_ms"),
            Cell::text(millis(phase.p90_ms)),
            Cell::keyed(millis(phase.p99_ms), "p99_ms"),
            Cell::text(millis(phase.max_ms)),
        ]
    };
    let heads = ["phase", "from", "to", "requests", "errors", "p50", "p90", "p99", "max"];
    let rows: Vec<_> = phases.iter().map(row).collect();
    section(
        "Latency by phase",
        &table(
            "Requests count by when they were sent; percentiles are of those that were answered.",
            &heads,
            &rows,
        ),
    )
}

/// What it was told and what it ran on.
fn facts(facts: &Value) -> String {
    let rows: Vec<_> = facts
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let text = match value {
                Value::Null => "–".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            vec![Cell::text(name.replace('_', " ")), Cell::text(text)]
        })
        .collect();
    section("Facts", &table("What the drill was told, and what it ran on.", &["", "value"], &rows))
}

/// What the bars of a lane mean.
fn legend(more: &[(&str, &str)]) -> String {
    let swatch = |class: &str, y: f64, height: f64| {
        format!(
            "<svg viewBox=\"0 0 22 20\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"22\" y=\"{y}\" height=\"{height}\"/></svg>"
        )
    };
    let mut items = vec![
        format!("<li>{}answered</li>", swatch("good", 7.0, 6.0)),
        format!("<li>{}some failed</li>", swatch("mixed", 3.5, 13.0)),
        format!("<li>{}all failed</li>", swatch("bad", 0.0, 20.0)),
    ];
    items.extend(more.iter().map(|(class, text)| {
        let (y, height) = if *class == "measured" { (8.0, 4.0) } else { (0.0, 20.0) };
        format!("<li>{}{}</li>", swatch(class, y, height), escaped(text))
    }));
    format!("<ul class=\"legend\">{}</ul>", items.concat())
}

/// Requests, a short row each: [due ms, sent ms, ended ms, node, kept, status or class, instance]; and how many.
fn requests(book: &Book, most: usize) -> (Value, usize) {
    let ms = |us: u64| us as f64 / 1e3;
    let row = |one: crate::drill::client::sample::Sample| {
        let outcome = match one.outcome {
            Outcome::Status(status) => json!(status),
            Outcome::Failed(class) => json!(class.name()),
        };
        let kept = u8::from(one.stream == Stream::Kept);
        json!([ms(one.due_us), ms(one.start_us), ms(one.end_us), one.node, kept, outcome, one.instance])
    };
    let errors = usize::try_from(book.samples().errors()).unwrap_or(usize::MAX);
    let every = [book.samples().len() - errors, errors].map(|count| count.div_ceil(most).max(1));
    let mut seen = [0; 2];
    let kept = book.samples().iter().filter(|one| {
        let kind = usize::from(!one.is_ok());
        seen[kind] += 1;
        (seen[kind] - 1) % every[kind] == 0
    });
    let rows: Vec<Value> = kept.map(row).collect();
    let count = rows.len();
    let all = json!({
        "nodes": book.nodes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "instances": book.instances(),
        "rows": rows,
    });
    (all, count)
}

/// JSON that can stand in a script element: nothing in it can end the element, begin a comment, or (the two separators of
/// Unicode) end a line of script ("Restrictions for contents of script elements",
/// <https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements>).
fn embedded(data: &Value) -> String {
    let text = data.to_string();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_can_end_its_element() {
        let hostile = json!({"a": "</script><script>alert(1)</script><!-- \u{2028} &amp;"});
        let text = embedded(&hostile);
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), hostile);
    }

    #[test]
    fn a_page_holds_so_many_rows_of_each_kind_and_every_error_where_they_are_few() {
        use crate::drill::analysis::window::tests::sample;
        let with = |errors: u64| {
            let mut book = Book::default();
            let status = |n| Outcome::Status(if n < errors { 502 } else { 200 });
            book.extend((0..1000).map(|n| sample(n, status(n), None)));
            let (data, count) = requests(&book, 100);
            let failed = data["rows"].as_array().unwrap().iter().filter(|row| row[5] == 502).count();
            (count, failed)
        };
        assert_eq!(with(7), (107, 7));
        assert_eq!(with(600), (200, 100));
    }

    #[test]
    fn the_page_asks_the_network_for_nothing() {
        let page = page("t", "", &Value::Null, &Book::default());
        assert!(page.contains("default-src 'none'") && !page.contains("://"));
        for word in ["innerHTML", "document.write", "eval(", "src="] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }
}
