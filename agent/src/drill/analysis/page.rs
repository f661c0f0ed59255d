//! The report as one page of HTML that needs nothing else. Everything that came off the network is data in it, never
//! markup: it stands in a block of JSON in which no `<` is left, and the page's own script writes it as text.

use serde_json::{Value, json};

use crate::drill::client::sample::{Book, Outcome, Stream};

const TEMPLATE: &str = include_str!("page/page.html");
const COMMON: &str = include_str!("page/common.js");
const FAILOVER: &str = include_str!("page/failover.js");
const SCALE: &str = include_str!("page/scale.js");
/// Where the script goes; once in the template.
const SCRIPT: &str = "\"SCRIPT\"";
/// Where the data goes; once in the template.
const PLACE: &str = "\"DATA\"";

/// The page of a drill of failing over; `result` is the last line of its JSON.
pub fn failover(result: &Value, book: &Book) -> String {
    render(FAILOVER, result, book)
}

/// The page of a drill of scaling.
pub fn scale(result: &Value, book: &Book) -> String {
    render(SCALE, result, book)
}

fn render(script: &str, result: &Value, book: &Book) -> String {
    let data = json!({"result": result, "requests": requests(book)});
    // The data last: what stands in it is looked at no more.
    let page = TEMPLATE.replacen(SCRIPT, &format!("{COMMON}\n{script}"), 1);
    page.replacen(PLACE, &embedded(&data), 1)
}

/// Every request, a short row each: [due ms, sent ms, ended ms, node, kept, status or class, instance].
fn requests(book: &Book) -> Value {
    let ms = |us: u64| us as f64 / 1e3;
    let row = |one: &crate::drill::client::sample::Sample| {
        let outcome = match one.outcome {
            Outcome::Status(status) => json!(status),
            Outcome::Failed(class) => json!(class.name()),
        };
        let kept = u8::from(one.stream == Stream::Kept);
        json!([ms(one.due_us), ms(one.start_us), ms(one.end_us), one.node, kept, outcome, one.instance])
    };
    json!({
        "nodes": book.nodes().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "instances": book.instances(),
        "rows": book.samples.iter().map(row).collect::<Vec<_>>(),
    })
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
    fn the_template_has_one_place_for_data_and_asks_the_network_for_nothing() {
        let whole = TEMPLATE.replacen(SCRIPT, &[COMMON, FAILOVER, SCALE].concat(), 1);
        assert_eq!(whole.matches(PLACE).count(), 1);
        assert_eq!(whole.matches(SCRIPT).count(), 0);
        assert!(TEMPLATE.contains("default-src 'none'"));
        // The name of SVG's namespace and nothing else.
        assert_eq!(whole.matches("://").count(), whole.matches("http://www.w3.org/2000/svg").count());
        for word in ["innerHTML", "document.write", "eval(", "src="] {
            assert!(!whole.contains(word), "{word}");
        }
    }
}
