//! How a master was started. nginx overwrites its arguments by a title, `nginx: master process nginx -c FILE …`
//! (`ngx_setproctitle.c`), in which blanks between arguments and within them look alike: it is taken apart by
//! nginx's own grammar of options (`ngx_get_options`), and what doesn't fit that grammar is not guessed.

const MASTER: &str = "nginx: master process ";

/// The options of a master, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options {
    /// The program's name, as it was typed.
    pub name: String,
    /// As arguments, without the program's name.
    pub args: Vec<String>,
}

impl Options {
    /// The value of the option `letter`, the last one where it was given twice.
    pub(super) fn value(&self, letter: char) -> Option<&str> {
        let name = format!("-{letter}");
        let pairs = self.args.iter().zip(self.args.iter().skip(1));
        pairs.rev().find(|(option, _)| **option == name).map(|(_, value)| value.as_str())
    }

    /// The arguments of the directive `name` given with `-g`.
    pub(super) fn global(&self, name: &str) -> Option<&str> {
        self.value('g')?
            .split(';')
            .find_map(|d| d.trim().strip_prefix(name)?.strip_prefix(' ').map(str::trim))
    }
}

/// Whether a title is a master's.
pub(super) fn is_master(cmdline: &[u8]) -> bool {
    cmdline.starts_with(MASTER.as_bytes())
}

/// The options out of a master's `/proc/PID/cmdline`; `Err` says what can't be understood.
pub(super) fn parse(cmdline: &[u8]) -> Result<Options, String> {
    let text = cmdline.split(|b| *b == 0).next().unwrap_or(cmdline);
    let text = std::str::from_utf8(text).map_err(|_| "its title is not UTF-8".to_owned())?;
    let line = text.strip_prefix(MASTER).ok_or("it has no master's title")?;
    let mut words = line.split(' ').peekable();
    let name = words.next().unwrap_or_default().to_owned();
    let mut args = Vec::new();
    while let Some(word) = words.next() {
        let bad = || format!("its arguments \"{line}\" cannot be told apart");
        // -c, -e, -g and -p take a value, behind a blank or without one; a running master has no other options.
        let option = word.strip_prefix('-').and_then(|w| w.split_at_checked(1));
        let (letter, glued) =
            option.filter(|(letter, _)| ["c", "e", "g", "p"].contains(letter)).ok_or_else(bad)?;
        let mut value = match glued {
            "" => words.next().ok_or_else(bad)?.to_owned(),
            glued => glued.to_owned(),
        };
        // What doesn't look like the next option still belongs to this value.
        while let Some(more) = words.next_if(|w| !is_option(w)) {
            value = value + " " + more;
        }
        if letter == "g" && !value.trim_end().ends_with(';') || letter != "g" && value.contains(' ') {
            return Err(bad());
        }
        args.extend([format!("-{letter}"), value]);
    }
    Ok(Options { name, args })
}

fn is_option(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next() == Some('-') && chars.next().is_some_and(|c| "cegp".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn args(line: &str) -> Result<Vec<String>, String> {
        parse(format!("nginx: master process {line}\0\0rest").as_bytes()).map(|o| o.args)
    }

    #[test]
    fn the_usual_ways_to_start_a_master_are_read() {
        assert_eq!(args("nginx").unwrap(), Vec::<String>::new());
        assert_eq!(args("/opt/nginx/sbin/nginx -c /a -p /b").unwrap(), ["-c", "/a", "-p", "/b"]);
        assert_eq!(args("nginx -c/a").unwrap(), ["-c", "/a"]);
        let debian = "/usr/sbin/nginx -g daemon on; master_process on;";
        assert_eq!(args(debian).unwrap(), ["-g", "daemon on; master_process on;"]);
        assert_eq!(args("nginx -g daemon off; -c /a").unwrap(), ["-g", "daemon off;", "-c", "/a"]);
    }

    #[test]
    fn what_can_not_be_told_apart_is_refused() {
        for line in ["nginx -c /a b", "nginx -x", "nginx stray", "nginx -c", "nginx -g daemon off", "nginx -"]
        {
            assert!(args(line).is_err(), "{line}");
        }
        assert!(parse(b"nginx: worker process").is_err());
    }

    #[test]
    fn global_directives_are_found_by_their_whole_name() {
        let options =
            Options { name: "nginx".into(), args: vec!["-g".into(), "pid /run/x.pid; daemon off;".into()] };
        assert_eq!(options.global("pid"), Some("/run/x.pid"));
        assert_eq!(options.global("daemon"), Some("off"));
        assert_eq!(options.global("dae"), None);
    }

    proptest! {
        #[test]
        fn no_title_panics(line in "[-cgp a;/\u{0}ä]{0,60}") {
            let _ = args(&line);
        }

        #[test]
        fn options_without_blanks_are_read_back(values in proptest::collection::vec("/[a-z-]{1,8}", 0..4)) {
            let given: Vec<String> = values.into_iter().flat_map(|v| ["-c".to_owned(), v]).collect();
            let line = [vec!["nginx".to_owned()], given.clone()].concat().join(" ");
            prop_assert_eq!(args(&line).unwrap(), given);
        }
    }
}
