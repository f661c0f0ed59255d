//! nginx's syntax: words, quotes, blocks, comments, includes
//! (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>, `ngx_conf_file.c`).

use std::path::{Path, PathBuf};

use super::ConfError;

/// How deeply includes may be nested, and how much text all files together may have: far above what exists.
const MAX_DEPTH: usize = 16;
const MAX_BYTES: usize = 16 << 20;

/// One directive, `name args…;` or `name args… { block }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The first word.
    pub name: String,
    /// The words behind it, unquoted.
    pub args: Vec<String>,
    /// What stands in its braces; includes are already replaced by what they include.
    pub block: Option<Vec<Directive>>,
}

impl Directive {
    /// The directives called `name` directly in the block.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.block.iter().flatten().filter(move |d| d.name == name)
    }

    /// Visits this directive and all below it, in order.
    pub fn walk(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        for inner in self.block.iter().flatten() {
            inner.walk(visit);
        }
    }
}

/// Parses a main file and all that it includes.
pub(super) fn load(path: &Path) -> Result<Vec<Directive>, ConfError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut budget = MAX_BYTES;
    load_file(path, folder, 0, &mut budget).map_err(|e| match e {
        ConfError::TooMuch { .. } => ConfError::TooMuch { path: path.to_owned() },
        e => e,
    })
}

fn load_file(
    path: &Path,
    folder: &Path,
    depth: usize,
    budget: &mut usize,
) -> Result<Vec<Directive>, ConfError> {
    let text = std::fs::read(path).map_err(|source| ConfError::Read { path: path.to_owned(), source })?;
    *budget = budget
        .checked_sub(text.len())
        .filter(|_| depth <= MAX_DEPTH)
        .ok_or_else(|| ConfError::TooMuch { path: path.to_owned() })?;
    let text = String::from_utf8_lossy(&text);
    let mut parser = Parser { words: Words::new(&text), path, folder, depth, budget };
    parser.block(false)
}

struct Parser<'a> {
    words: Words<'a>,
    path: &'a Path,
    folder: &'a Path,
    depth: usize,
    budget: &'a mut usize,
}

impl Parser<'_> {
    /// Directives up to the closing brace, or to the end of the file.
    fn block(&mut self, inside: bool) -> Result<Vec<Directive>, ConfError> {
        let mut done = Vec::new();
        let mut words: Vec<String> = Vec::new();
        loop {
            match self.words.next().map_err(|message| self.wrong(message))? {
                Token::Word(word) => words.push(word),
                Token::Semicolon => self.simple(std::mem::take(&mut words), &mut done)?,
                Token::Open => {
                    let mut args = std::mem::take(&mut words).into_iter();
                    let name = args.next().ok_or_else(|| self.wrong("a block without a name"))?;
                    let block = if name.ends_with("_by_lua_block") {
                        self.words.skip_block().map_err(|message| self.wrong(message))?;
                        Vec::new()
                    } else {
                        self.nested()?
                    };
                    done.push(Directive { name, args: args.collect(), block: Some(block) });
                }
                Token::Close if inside && words.is_empty() => return Ok(done),
                Token::End if !inside && words.is_empty() => return Ok(done),
                Token::Close => return Err(self.wrong("unexpected \"}\"")),
                Token::End => return Err(self.wrong("unexpected end of file, expecting \";\" or \"}\"")),
            }
        }
    }

    fn nested(&mut self) -> Result<Vec<Directive>, ConfError> {
        self.depth += 1;
        if self.depth > 2 * MAX_DEPTH {
            return Err(ConfError::TooMuch { path: self.path.to_owned() });
        }
        let block = self.block(true);
        self.depth -= 1;
        block
    }

    fn simple(&mut self, words: Vec<String>, done: &mut Vec<Directive>) -> Result<(), ConfError> {
        let mut args = words.into_iter();
        let name = args.next().ok_or_else(|| self.wrong("unexpected \";\""))?;
        let args: Vec<String> = args.collect();
        match args.first() {
            Some(pattern) if name == "include" => {
                for file in self.included(pattern) {
                    done.extend(load_file(&file, self.folder, self.depth + 1, self.budget)?);
                }
            }
            _ => done.push(Directive { name, args, block: None }),
        }
        Ok(())
    }

    /// The files that a mask names, sorted; a name without a mask must exist (reading it tells).
    fn included(&self, pattern: &str) -> Vec<PathBuf> {
        let path = self.folder.join(pattern);
        if !pattern.contains(['*', '?', '[']) {
            return vec![path];
        }
        glob::glob(&path.to_string_lossy()).map(|found| found.flatten().collect()).unwrap_or_default()
    }

    fn wrong(&self, message: impl Into<String>) -> ConfError {
        ConfError::Syntax { path: self.path.to_owned(), line: self.words.line, message: message.into() }
    }
}

enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

/// The text, cut into tokens.
struct Words<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable(), line: 1 }
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn next(&mut self) -> Result<Token, &'static str> {
        loop {
            let Some(c) = self.advance() else { return Ok(Token::End) };
            return Ok(match c {
                c if c.is_ascii_whitespace() => continue,
                '#' => {
                    while self.rest.peek().is_some_and(|c| *c != '\n') {
                        self.advance();
                    }
                    continue;
                }
                ';' => Token::Semicolon,
                '{' => Token::Open,
                '}' => Token::Close,
                '"' | '\'' => self.quoted(c)?,
                c => self.bare(c),
            });
        }
    }

    /// A quoted word; a backslash keeps the quote or itself, `\t`, `\r`, `\n` are what they say, anything else stays.
    fn quoted(&mut self, quote: char) -> Result<Token, &'static str> {
        let mut word = String::new();
        loop {
            match self.advance().ok_or("a quote is never closed")? {
                '\\' => self.escape(&mut word),
                c if c == quote => return Ok(Token::Word(word)),
                c => word.push(c),
            }
        }
    }

    fn bare(&mut self, first: char) -> Token {
        let mut word = String::new();
        let mut next = Some(first);
        while let Some(c) = next {
            match c {
                '\\' => self.escape(&mut word),
                c => word.push(c),
            }
            // `${name}` is one word, its braces open no block.
            let in_variable = word.ends_with('$') || (word.rfind("${") > word.rfind('}'));
            next = match self.rest.peek() {
                Some(c) if c.is_ascii_whitespace() || *c == ';' => None,
                Some('{') if !in_variable => None,
                Some('}') if !in_variable => None,
                Some(_) => self.advance(),
                None => None,
            };
        }
        Token::Word(word)
    }

    fn escape(&mut self, word: &mut String) {
        match self.advance() {
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c) => word.extend(['\\', c]),
            None => word.push('\\'),
        }
    }

    /// Skips a block of another language, braces balanced.
    fn skip_block(&mut self) -> Result<(), &'static str> {
        let mut depth = 1;
        while depth > 0 {
            match self.advance().ok_or("a block is never closed")? {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn parse(text: &str) -> Result<Vec<Directive>, ConfError> {
        let mut budget = MAX_BYTES;
        let path = Path::new("/etc/nginx/nginx.conf");
        Parser {
            words: Words::new(text),
            path,
            folder: Path::new("/etc/nginx"),
            depth: 0,
            budget: &mut budget,
        }
        .block(false)
    }

    #[test]
    fn words_quotes_comments_and_blocks_are_told_apart() {
        let found =
            parse("a b 'c d' \"e\\\"f\"; # x { }\nblock ~ ^/x$ { if ($a = \"}\") { return 200; } }").unwrap();
        assert_eq!(found[0].args, ["b", "c d", "e\"f"]);
        assert_eq!(found[1].args, ["~", "^/x$"]);
        let inner = found[1].children("if").next().unwrap();
        assert_eq!(inner.args, ["($a", "=", "}", ")"].map(String::from));
    }

    #[test]
    fn a_variable_in_braces_is_part_of_its_word() {
        assert_eq!(parse("set $a ${b}_c;").unwrap()[0].args, ["$a", "${b}_c"]);
    }

    #[test]
    fn lua_is_skipped() {
        let found = parse("content_by_lua_block { local a = { 'x;' } } b;").unwrap();
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn an_error_names_file_and_line() {
        let message = parse("a;\nb {\n").unwrap_err().to_string();
        assert_eq!(message, "/etc/nginx/nginx.conf:3: unexpected end of file, expecting \";\" or \"}\"");
    }

    #[test]
    fn includes_are_followed_sorted_and_end() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        fs::write(dir.path().join("conf.d/b.conf"), "b;").unwrap();
        fs::write(dir.path().join("conf.d/a.conf"), "a;").unwrap();
        let main = dir.path().join("nginx.conf");
        fs::write(&main, "include conf.d/*.conf; include none/*.conf; c;").unwrap();
        let names: Vec<_> = load(&main).unwrap().into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        fs::write(&main, "include missing.conf;").unwrap();
        assert!(matches!(load(&main), Err(ConfError::Read { .. })));
        fs::write(&main, "include nginx.conf;").unwrap();
        assert!(matches!(load(&main), Err(ConfError::TooMuch { .. })));
    }

    proptest! {
        #[test]
        fn no_text_panics_or_hangs(text in "[ a-c{};#'\"\\\\$\n]{0,200}") {
            let _ = parse(&text);
        }
    }
}
