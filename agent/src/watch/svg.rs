//! The picture as SVG: text in a grid, readable in light and in dark.

use super::picture::{Picture, Tone};

const COLUMN: f64 = 8.4;
const LINE: f64 = 18.0;

/// One self-contained file.
pub fn svg(picture: &Picture) -> String {
    let columns = picture.lines.iter().map(super::picture::Line::width).max().unwrap_or(0);
    let (width, height) = (columns as f64 * COLUMN + 24.0, picture.lines.len() as f64 * LINE + 24.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>agent watch</title>\n<style>\n\
         svg {{ background: #fff; font: 14px ui-monospace, Menlo, Consolas, monospace }}\n\
         text {{ fill: #1d2733; white-space: pre }}\n\
         .d {{ fill: #66717f }} .b {{ font-weight: 600 }} .g {{ fill: #157a3c }} .w {{ fill: #8a5a00 }}\n\
         .x {{ fill: #b3261e; font-weight: 600 }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         svg {{ background: #12181f }} text {{ fill: #dbe2ea }} .d {{ fill: #8b97a5 }} .g {{ fill: #5fd08a }}\n\
         .w {{ fill: #e8b45a }} .x {{ fill: #ff8a80 }} }}\n</style>\n"
    );
    for (number, line) in picture.lines.iter().enumerate() {
        let y = 12.0 + LINE * (number as f64 + 0.75);
        let mut column = 0;
        for run in &line.0 {
            let length = run.text.chars().count();
            if !run.text.trim().is_empty() {
                let x = 12.0 + COLUMN * f64::from(u32::try_from(column).unwrap_or(0));
                let extent = COLUMN * length as f64;
                out.push_str(&format!(
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{extent:.1}\" lengthAdjust=\"spacingAndGlyphs\" \
                     xml:space=\"preserve\"{}>{}</text>\n",
                    class(run.tone),
                    escaped(&run.text)
                ));
            }
            column += length;
        }
    }
    out.push_str("</svg>\n");
    out
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Dim => " class=\"d\"",
        Tone::Bold => " class=\"b\"",
        Tone::Good => " class=\"g\"",
        Tone::Warn => " class=\"w\"",
        Tone::Bad => " class=\"x\"",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::picture::Line;
    use super::*;

    #[test]
    fn text_stays_text() {
        let picture = Picture { lines: vec![Line::of("a <b> & c", Tone::Bad)] };
        let svg = svg(&picture);
        assert!(svg.contains(">a &lt;b&gt; &amp; c</text>") && svg.contains("class=\"x\""), "{svg}");
    }
}
