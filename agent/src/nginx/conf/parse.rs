//! Directives, blocks and includes
//! (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>, `ngx_conf_file.c`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::read::{Bounds, Budget, Spent, is_mask};
use super::words::{Statement, Words};
use super::{ConfError, Place};

/// Blocks whose lines are values, not directives, of nothing that matters here; some have hundreds of thousands.
const TABLES: [&str; 5] = ["map", "geo", "types", "split_clients", "charset_map"];

/// Blocks that are nginx's own: what is wrong in them is wrong. In any other there may be another language.
const BLOCKS: [&str; 10] =
    ["http", "server", "location", "events", "stream", "mail", "upstream", "if", "limit_except", "match"];

/// One directive, `name args…;` or `name args… { block }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The first word.
    pub name: String,
    /// The words behind it, unquoted.
    pub args: Vec<String>,
    /// What stands in its braces; includes are already replaced by what they include.
    pub block: Option<Vec<Directive>>,
    /// Where it stands.
    pub place: Place,
}

impl Directive {
    /// The directives called `name` directly in the block.
    pub fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.block.iter().flatten().filter(move |d| d.name == name)
    }

    /// Visits this directive and all below it, in order.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Self)) {
        visit(self);
        for inner in self.block.iter().flatten() {
            inner.walk(visit);
        }
    }
}

/// What was parsed, and the files and folders that it came from.
pub(super) type Parsed = (Vec<Directive>, Vec<PathBuf>);

/// Parses a main file and all that it includes.
pub(super) fn load(path: &Path, bounds: &Bounds) -> Result<Parsed, ConfError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut budget = Budget::new(bounds);
    let directives = load_file(path, None, folder, 0, &mut budget)?;
    Ok((directives, budget.sources))
}

/// Parses a main file's text and all that it includes, as if it lay at `path`.
pub(super) fn text(text: &[u8], path: &Path, bounds: &Bounds) -> Result<Parsed, ConfError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut budget = Budget::new(bounds);
    let mut parser =
        Parser { words: Words::new(text), file: path.into(), folder, depth: 0, budget: &mut budget };
    let directives = parser.block(false, true)?;
    Ok((directives, budget.sources))
}

fn load_file(
    path: &Path,
    from: Option<&Place>,
    folder: &Path,
    depth: usize,
    budget: &mut Budget,
) -> Result<Vec<Directive>, ConfError> {
    let place = || from.cloned().unwrap_or_else(|| Place { file: path.into(), line: 1 });
    let read = budget.read(path).map_err(|spent| too_much(place(), spent))?;
    let text = read.map_err(|why| ConfError::Read {
        path: path.to_owned(),
        included: from.map(|place| format!(" (included at {place})")).unwrap_or_default(),
        why,
    })?;
    Parser { words: Words::new(&text), file: path.into(), folder, depth, budget }.block(false, true)
}

fn too_much(place: Place, Spent(what): Spent) -> ConfError {
    ConfError::TooMuch { place, what }
}

struct Parser<'a> {
    words: Words<'a>,
    file: Arc<Path>,
    folder: &'a Path,
    depth: usize,
    budget: &'a mut Budget,
}

impl Parser<'_> {
    /// Directives up to the closing brace, or to the end of the file; none are kept unless `keep`.
    fn block(&mut self, inside: bool, keep: bool) -> Result<Vec<Directive>, ConfError> {
        let mut done = Vec::new();
        loop {
            let statement = self.words.next().map_err(|message| self.wrong(message))?;
            let place = Place { file: Arc::clone(&self.file), line: self.words.begun };
            let (mut words, opens) = match statement {
                Statement::Simple(words) => (words.into_iter(), false),
                Statement::Open(words) => (words.into_iter(), true),
                Statement::Close if inside => return Ok(done),
                Statement::Close => return Err(self.wrong("unexpected \"}\"")),
                Statement::End if inside => return Err(self.wrong("unexpected end of file, expecting \"}\"")),
                Statement::End => return Ok(done),
            };
            let name = words.next().unwrap_or_default();
            let kept = if keep { words.len() + 1 } else { 0 };
            self.budget.keep(kept).map_err(|spent| too_much(place.clone(), spent))?;
            let args: Vec<String> = words.collect();
            if opens {
                let block = self.nested(&name, &place, keep)?;
                if keep {
                    done.push(Directive { name, args, block: Some(block), place });
                }
            } else if let Some(mask) = args.first().filter(|_| keep && name == "include") {
                self.include(mask, &place, &mut done)?;
            } else if keep {
                done.push(Directive { name, args, block: None, place });
            }
        }
    }

    /// What stands between the braces of the block `name`.
    fn nested(&mut self, name: &str, place: &Place, keep: bool) -> Result<Vec<Directive>, ConfError> {
        if name.ends_with("_by_lua_block") {
            return self.words.skip_lua().map(|()| Vec::new()).map_err(|message| self.wrong(message));
        }
        self.depth += 1;
        if self.depth > self.budget.depth() {
            let what = Spent("blocks and includes are nested too deeply".into());
            return Err(too_much(place.clone(), what));
        }
        let start = self.words;
        let block = self.block(true, keep && !TABLES.contains(&name));
        self.depth -= 1;
        match block {
            Err(ConfError::Syntax { place: wrong, message })
                if wrong.file == self.file && !BLOCKS.contains(&name) && !TABLES.contains(&name) =>
            {
                self.budget.in_time().map_err(|spent| too_much(place.clone(), spent))?;
                self.words = start;
                let skipped = self.words.skip_foreign();
                skipped.map(|()| Vec::new()).map_err(|_| ConfError::Syntax { place: wrong, message })
            }
            block => block,
        }
    }

    /// Reads the files that a mask names, sorted; a name without a mask must exist.
    fn include(&mut self, mask: &str, place: &Place, done: &mut Vec<Directive>) -> Result<(), ConfError> {
        if self.depth >= self.budget.depth() {
            let what = Spent("blocks and includes are nested too deeply".into());
            return Err(too_much(place.clone(), what));
        }
        let path = self.folder.join(mask);
        let files = match is_mask(mask) {
            false => vec![path],
            true => self.budget.glob(&path).map_err(|spent| too_much(place.clone(), spent))?,
        };
        for file in files {
            done.extend(load_file(&file, Some(place), self.folder, self.depth + 1, self.budget)?);
        }
        Ok(())
    }

    fn wrong(&self, message: impl Into<String>) -> ConfError {
        let place = Place { file: Arc::clone(&self.file), line: self.words.line };
        ConfError::Syntax { place, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn parse(text: &str) -> Result<Vec<Directive>, ConfError> {
        Parser {
            words: Words::new(text.as_bytes()),
            file: Path::new("/etc/nginx/nginx.conf").into(),
            folder: Path::new("/etc/nginx"),
            depth: 0,
            budget: &mut Budget::new(&Bounds::OURS),
        }
        .block(false, true)
    }

    fn names(text: &str) -> Vec<String> {
        parse(text).unwrap().into_iter().map(|d| d.name).collect()
    }

    #[test]
    fn blocks_and_their_places_are_told() {
        let found = parse("a b; # x { }\nblock ~ ^/x$ {\n if ($a = \"}\") { return 200; } }").unwrap();
        assert_eq!(found[1].args, ["~", "^/x$"]);
        let inner = found[1].children("if").next().unwrap();
        assert_eq!(inner.args, ["($a", "=", "}", ")"].map(String::from));
        assert_eq!(inner.place.to_string(), "/etc/nginx/nginx.conf:3");
    }

    #[test]
    fn blocks_of_other_languages_do_not_stop_the_reading() {
        assert_eq!(names("content_by_lua_block { local i = s:find(\"{\", 1, true) } b;").len(), 2);
        assert_eq!(names("http { server { set_by_lua_block $a { return '}' } } } b;"), ["http", "b"]);
        assert_eq!(names("js_block x { r.return(200, `}`) } b;"), ["js_block", "b"]);
        assert_eq!(names("vendor { plain yes; } b;"), ["vendor", "b"], "an unknown block of nginx's syntax");
    }

    #[test]
    fn tables_are_passed_over() {
        let found = parse("http { map $a $b { default 0; include none; '}' 1; } a; }").unwrap();
        let inside: Vec<_> = found[0].block.iter().flatten().map(|d| d.name.as_str()).collect();
        assert_eq!(inside, ["map", "a"]);
        assert_eq!(found[0].children("map").next().unwrap().block, Some(vec![]));
    }

    #[test]
    fn an_error_names_file_and_line() {
        for (text, message) in [
            ("a;\nhttp {\n", "3: unexpected end of file, expecting \"}\""),
            ("a;\nb\n", "3: unexpected end of file, expecting \";\" or \"}\""),
            ("a;\n}\n", "2: unexpected \"}\""),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("/etc/nginx/nginx.conf:{message}"));
        }
    }

    #[test]
    fn includes_are_followed_sorted_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let load = |main: &Path| load(main, &Bounds::OURS);
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        fs::write(dir.path().join("conf.d/b.conf"), "b;").unwrap();
        fs::write(dir.path().join("conf.d/a.conf"), "a;").unwrap();
        let main = dir.path().join("nginx.conf");
        fs::write(&main, "include conf.d/*.conf; include none/*.conf; c;").unwrap();
        let names: Vec<_> = load(&main).unwrap().0.into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        fs::write(&main, "\ninclude missing.conf;").unwrap();
        let missing = load(&main).unwrap_err().to_string();
        assert!(
            missing.contains("missing.conf: No such file") && missing.contains("nginx.conf:2)"),
            "{missing}"
        );
        fs::write(&main, "include nginx.conf;").unwrap();
        assert!(matches!(load(&main), Err(ConfError::TooMuch { .. })));
    }

    #[test]
    fn what_a_stranger_configured_costs_little() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("nginx.conf");
        let bomb = |text: &str| {
            fs::write(&main, text).unwrap();
            load(&main, &Bounds::STRANGERS).unwrap_err()
        };
        fs::write(dir.path().join("twice"), "include twice; include twice;").unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for text in [
            "include twice;",
            "include /proc/*/task/*/fd/*;",
            "include /*/*/*/*/*/*/none;",
            "include /dev/zero;",
            "include pipe;",
            &"a ".repeat(60_000),
            &"a{".repeat(10_000),
        ] {
            let _ = bomb(text);
        }
        for path in [&pipe, Path::new("/dev/zero"), dir.path()] {
            assert!(matches!(load(path, &Bounds::STRANGERS), Err(ConfError::Read { .. })));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_hangs(text in "[ a-c{};#'\"\\\\$\n]{0,200}") {
            let _ = parse(&text);
        }
    }
}
