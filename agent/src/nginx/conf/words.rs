//! nginx's syntax, cut into statements exactly as `ngx_conf_read_token` in `ngx_conf_file.c` does it: words, quotes,
//! comments, `${variables}`. Blocks of another language (Lua, JavaScript) are skipped by that language's own rules.

/// What stands next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// `name args…;`
    Simple(Vec<String>),
    /// `name args… {`
    Open(Vec<String>),
    /// `}`
    Close,
    /// The end of the file.
    End,
}

/// The text of one file, read statement by statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    text: &'a [u8],
    at: usize,
    /// The line that was read last, counted from 1.
    pub line: usize,
    /// The line on which the last statement began.
    pub begun: usize,
}

/// How the language of a foreign block writes strings and comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Lua,
    JavaScript,
    /// Only its braces are counted.
    Unknown,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), at: 0, line: 1, begun: 1 }
    }

    fn advance(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The next statement; `Err` says what is wrong on the line `self.line`.
    pub(super) fn next(&mut self) -> Result<Statement, String> {
        let mut words = Vec::new();
        loop {
            self.skip_blank();
            let start = self.at;
            if words.is_empty() {
                self.begun = self.line;
            }
            let ended = match self.advance() {
                None if words.is_empty() => return Ok(Statement::End),
                None => return Err("unexpected end of file, expecting \";\" or \"}\"".to_owned()),
                Some(b';') if !words.is_empty() => return Ok(Statement::Simple(words)),
                Some(b'{') if !words.is_empty() => return Ok(Statement::Open(words)),
                Some(b'}') if words.is_empty() => return Ok(Statement::Close),
                Some(byte @ (b';' | b'{' | b'}')) => return Err(unexpected(byte)),
                Some(quote @ (b'"' | b'\'')) => {
                    words.push(self.quoted(quote)?);
                    self.behind_quote()?
                }
                Some(first) => {
                    words.push(self.bare(start, first)?);
                    self.advance()
                }
            };
            match ended {
                Some(b';') => return Ok(Statement::Simple(words)),
                Some(b'{') => return Ok(Statement::Open(words)),
                _ => {}
            }
        }
    }

    fn skip_blank(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => drop(self.advance()),
                b'#' => self.skip_line(),
                _ => return,
            }
        }
    }

    /// Up to the end of the line.
    fn skip_line(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    }

    /// A quoted word, whose opening quote was read.
    fn quoted(&mut self, quote: u8) -> Result<String, String> {
        let start = self.at;
        loop {
            match self.advance() {
                None => {
                    return Err(format!(
                        "unexpected end of file, the quote {} is never closed",
                        quote as char
                    ));
                }
                Some(b'\\') => drop(self.advance()),
                Some(byte) if byte == quote => return Ok(self.word(start, self.at - 1)),
                Some(_) => {}
            }
        }
    }

    /// Behind a quoted word there must be a blank, the statement's end, or `)`.
    fn behind_quote(&mut self) -> Result<Option<u8>, String> {
        match self.peek() {
            Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{') => Ok(self.advance()),
            Some(b')') | None => Ok(None),
            Some(byte) => Err(unexpected(byte)),
        }
    }

    /// A word without quotes: up to a blank, `;` or `{`, but for the brace of a `${variable}`.
    fn bare(&mut self, start: usize, first: u8) -> Result<String, String> {
        let mut variable = first == b'$';
        if first == b'\\' {
            self.advance();
        }
        loop {
            match self.peek() {
                None => return Err("unexpected end of file, expecting \";\" or \"}\"".to_owned()),
                Some(b'{') if variable => drop(self.advance()),
                Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{') => return Ok(self.word(start, self.at)),
                Some(byte) => {
                    variable = byte == b'$';
                    self.advance();
                    if byte == b'\\' {
                        self.advance();
                    }
                }
            }
        }
    }

    /// A word's bytes; a backslash keeps a quote or itself, `\t`, `\r`, `\n` are what they say, anything else stays.
    fn word(&self, start: usize, end: usize) -> String {
        let raw = self.text.get(start..end).unwrap_or_default();
        if !raw.contains(&b'\\') {
            return String::from_utf8_lossy(raw).into_owned();
        }
        let mut word = Vec::with_capacity(raw.len());
        let mut bytes = raw.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let escaped = match (byte, bytes.peek()) {
                (b'\\', Some(quote @ (b'"' | b'\'' | b'\\'))) => Some(*quote),
                (b'\\', Some(b't')) => Some(b'\t'),
                (b'\\', Some(b'r')) => Some(b'\r'),
                (b'\\', Some(b'n')) => Some(b'\n'),
                _ => None,
            };
            word.push(escaped.unwrap_or(byte));
            if escaped.is_some() {
                bytes.next();
            }
        }
        String::from_utf8_lossy(&word).into_owned()
    }

    /// Skips the rest of a Lua block, whose opening brace was read, as OpenResty does (`ngx_http_lua_lex.c`): braces
    /// in strings, long brackets and comments don't count.
    pub(super) fn skip_lua(&mut self) -> Result<(), String> {
        self.skip(Language::Lua)
    }

    /// Skips the rest of a block of an unknown language, by the first rules by which it ends.
    pub(super) fn skip_foreign(&mut self) -> Result<(), String> {
        let start = *self;
        let mut last = Ok(());
        for language in [Language::JavaScript, Language::Lua, Language::Unknown] {
            *self = start;
            last = self.skip(language);
            if last.is_ok() {
                return last;
            }
        }
        last
    }

    fn skip(&mut self, language: Language) -> Result<(), String> {
        let mut depth = 1_usize;
        while depth > 0 {
            let byte = self.advance().ok_or("unexpected end of file, a block is never closed")?;
            match (language, byte, self.peek()) {
                (_, b'{', _) => depth += 1,
                (_, b'}', _) => depth -= 1,
                (Language::Lua, b'-', Some(b'-')) => {
                    self.advance();
                    if self.peek() != Some(b'[') || !self.skip_long_bracket()? {
                        self.skip_line();
                    }
                }
                (Language::Lua, b'[', Some(b'[' | b'=')) => {
                    self.at -= 1;
                    if !self.skip_long_bracket()? {
                        self.advance();
                    }
                }
                (Language::Lua, quote @ (b'"' | b'\''), _)
                | (Language::JavaScript, quote @ (b'"' | b'\'' | b'`'), _) => {
                    self.quoted(quote)?;
                }
                (Language::JavaScript, b'/', Some(b'/')) => self.skip_line(),
                (Language::JavaScript, b'/', Some(b'*')) => self.skip_past(b"*/")?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Skips `[==[ … ]==]` from its first bracket on; false where none begins here.
    fn skip_long_bracket(&mut self) -> Result<bool, String> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let level = rest.iter().skip(1).take_while(|b| **b == b'=').count();
        if rest.first() != Some(&b'[') || rest.get(level + 1) != Some(&b'[') {
            return Ok(false);
        }
        let close = [b"]".as_slice(), &vec![b'='; level], b"]"].concat();
        self.skip_past(&close)?;
        Ok(true)
    }

    fn skip_past(&mut self, end: &[u8]) -> Result<(), String> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let to = memchr::memmem::find(rest, end).map(|at| at + end.len()).ok_or_else(|| {
            format!("unexpected end of file, \"{}\" is missing", String::from_utf8_lossy(end))
        })?;
        self.line += bytecount::count(rest.get(..to).unwrap_or_default(), b'\n');
        self.at += to;
        Ok(())
    }
}

fn unexpected(byte: u8) -> String {
    format!("unexpected \"{}\"", byte.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first(text: &str) -> Result<Statement, String> {
        Words::new(text.as_bytes()).next()
    }

    fn words(text: &str) -> Vec<String> {
        match first(text).unwrap() {
            Statement::Simple(words) | Statement::Open(words) => words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_cut_as_nginx_cuts_them() {
        assert_eq!(words("a b 'c d' \"e\\\"f\";"), ["a", "b", "c d", "e\"f"]);
        assert_eq!(words("a b\"c d;"), ["a", "b\"c", "d"], "a quote within a word is part of it");
    }

    #[test]
    fn braces_belong_to_words_quotes_and_variables() {
        assert_eq!(words("return 200 x};"), ["return", "200", "x}"]);
        assert_eq!(words("location ~ \"^/\\d{2}$\" {"), ["location", "~", "^/\\d{2}$"]);
        assert_eq!(words("set $a ${b}_c;"), ["set", "$a", "${b}_c"]);
        assert_eq!(words("if ($a = \"}\") {"), ["if", "($a", "=", "}", ")"]);
        assert_eq!(words("a # b; {\n c;"), ["a", "c"]);
        assert_eq!(words("a b#c;"), ["a", "b#c"]);
    }

    #[test]
    fn what_nginx_refuses_is_refused() {
        for (text, message) in [
            ("a 'b'c;", "unexpected \"c\""),
            ("a }", "unexpected \"}\""),
            ("a b", "unexpected end of file, expecting \";\" or \"}\""),
            ("a 'b", "unexpected end of file, the quote ' is never closed"),
            (";", "unexpected \";\""),
            ("{", "unexpected \"{\""),
        ] {
            assert_eq!(first(text).unwrap_err(), message, "{text}");
        }
    }

    #[test]
    fn lua_is_skipped_as_openresty_reads_it() {
        for lua in [
            "local i = s:find(\"{\", 1, true)",
            "local s = '}' -- don't {\n",
            "--[[ } ]] local a = {}",
            "--[==[ }]] } ]==] x = [=[ } ]=]",
            "s = \"\\\"}\" t = a[b[1]]",
            "if a then ngx.say([[ } ' ]]) end",
        ] {
            let text = format!("{lua} }} next;");
            let mut rest = Words::new(text.as_bytes());
            rest.skip_lua().unwrap();
            assert_eq!(rest.next().unwrap(), Statement::Simple(vec!["next".into()]), "{lua}");
        }
    }

    #[test]
    fn other_languages_end_where_their_braces_do() {
        for code in ["r.return(200, `}`) // it's }\n", "/* } */ f({a: 1})", "it's { } fine"] {
            let text = format!("{code} }} next;");
            let mut rest = Words::new(text.as_bytes());
            rest.skip_foreign().unwrap();
            assert_eq!(rest.next().unwrap(), Statement::Simple(vec!["next".into()]), "{code}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_text_ends(text in "[ a-c{};#'\"\\\\$\n=-]{0,200}") {
            let mut words = Words::new(text.as_bytes());
            for _ in 0..=text.len() {
                if !matches!(words.next(), Ok(Statement::Simple(_) | Statement::Open(_) | Statement::Close)) {
                    break;
                }
            }
            let _ = Words::new(text.as_bytes()).skip_lua();
            let _ = Words::new(text.as_bytes()).skip_foreign();
        }
    }
}
