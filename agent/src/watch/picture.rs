//! Lines of text with tones: what a terminal, a plain printout and a file of SVG all show.

/// How a run of text is meant. A tone never says what the text doesn't: colours may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As any text.
    #[default]
    Plain,
    /// Frames and labels.
    Dim,
    /// A title.
    Bold,
    /// Well.
    Good,
    /// Soon or perhaps not.
    Warn,
    /// Not.
    Bad,
}

/// A run of text in one tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The text; each character takes one column.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(pub Vec<Run>);

impl Line {
    /// A line of one run.
    pub fn of(text: impl Into<String>, tone: Tone) -> Self {
        let mut line = Self::default();
        line.push(text, tone);
        line
    }

    /// Appends a run.
    pub fn push(&mut self, text: impl Into<String>, tone: Tone) {
        let text = text.into();
        match self.0.last_mut() {
            Some(last) if last.tone == tone => last.text.push_str(&text),
            _ if text.is_empty() => {}
            _ => self.0.push(Run { text, tone }),
        }
    }

    /// Its columns.
    pub fn width(&self) -> usize {
        self.0.iter().map(|run| run.text.chars().count()).sum()
    }

    /// Makes it exactly `width` columns: filled with `fill`, or cut.
    #[must_use]
    pub fn fit(mut self, width: usize, fill: char) -> Self {
        let mut left = width;
        for run in &mut self.0 {
            let length = run.text.chars().count();
            if length > left {
                run.text = run.text.chars().take(left).collect();
            }
            left -= length.min(left);
        }
        self.0.retain(|run| !run.text.is_empty());
        self.push(fill.to_string().repeat(left), Tone::Dim);
        self
    }

    /// Without tones.
    pub fn text(&self) -> String {
        self.0.iter().map(|run| run.text.as_str()).collect()
    }
}

/// A whole picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    /// Its lines, each as wide as it.
    pub lines: Vec<Line>,
}

impl Picture {
    /// As plain text.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text().trim_end())).collect()
    }
}

/// The characters that a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Boxes and blocks.
    Unicode,
    /// What every terminal has.
    Ascii,
}

impl Charset {
    /// What the locale says: UTF-8 or not (locale(7): the first of these that is set counts).
    pub fn of_locale(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default();
        let utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        if utf8 { Self::Unicode } else { Self::Ascii }
    }

    /// One of two forms.
    pub fn pick<T>(self, unicode: T, ascii: T) -> T {
        match self {
            Self::Unicode => unicode,
            Self::Ascii => ascii,
        }
    }

    /// A level from 0 to 100 percent as a block of that height.
    pub fn level(self, pct: f32) -> char {
        let levels: &[char] =
            self.pick(&['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'], &['_', '.', ',', '-', '=', '+', '*', '#']);
        let at = (pct.clamp(0.0, 100.0) / 100.0 * (levels.len() as f32 - 0.01)) as usize;
        levels.get(at).copied().unwrap_or(' ')
    }

    /// The text in this set: what ASCII doesn't have is replaced.
    pub fn text(self, text: &str) -> String {
        let plain = |c: char| match c {
            '·' => '.',
            '─' => '-',
            '│' | '╷' => '|',
            '┌' | '┐' | '└' | '┘' | '├' | '┤' => '+',
            '█' => '#',
            '→' => '>',
            '←' => '<',
            c if c.is_ascii() => c,
            _ => '?',
        };
        match self {
            Self::Unicode => text.to_owned(),
            Self::Ascii => text.chars().map(plain).collect(),
        }
    }
}

/// Text of others (names, causes) as one line without control characters, each character one column wide.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_filled_or_cut_to_its_width() {
        let mut line = Line::of("abc", Tone::Good);
        line.push("def", Tone::Bad);
        assert_eq!(line.clone().fit(4, ' ').text(), "abcd");
        assert_eq!(line.clone().fit(8, '─').text(), "abcdef──");
        assert_eq!(line.fit(0, ' ').text(), "");
    }

    #[test]
    fn the_locale_says_what_can_be_shown() {
        let of = |all: &[(&str, &str)]| {
            Charset::of_locale(|name| all.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(of(&[("LANG", "en_US.UTF-8")]), Charset::Unicode);
        assert_eq!(of(&[("LANG", "C.utf8"), ("LC_ALL", "")]), Charset::Unicode);
        assert_eq!(of(&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")]), Charset::Ascii);
        assert_eq!(of(&[]), Charset::Ascii);
    }

    #[test]
    fn every_percentage_has_a_level() {
        for charset in [Charset::Unicode, Charset::Ascii] {
            let levels: Vec<char> = (0..=100).map(|pct| charset.level(pct as f32)).collect();
            assert!(!levels.contains(&' '));
            assert_ne!(levels[0], levels[100]);
        }
        assert_eq!(Charset::Ascii.text("┌─ a · b ─┐"), "+- a . b -+");
    }
}
