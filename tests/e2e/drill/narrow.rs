//! Drills in a narrow terminal: no line is wider than it.

use std::process::Command;

use world::agent;
use world::nginx::Nginx;
use world::place::Place;

use crate::fault::skipped;

const COLUMNS: usize = 40;

/// What a command line writes to the stdout of a terminal of so many columns, line by line and without colours.
fn narrow(place: &Place, args: &str) -> Option<Vec<String>> {
    let agent = agent::command(place, &[]);
    let mut script = Command::new("script");
    let inside =
        format!("stty cols {COLUMNS} rows 24; exec {} {args} 2>/dev/null", agent.get_program().display());
    script.args(["-qefc", &inside, "/dev/null"]).env_clear();
    script.envs(agent.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(place.path());
    let Ok(output) = script.output() else {
        skipped("script(1) is missing");
        return None;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let mut bare = String::new();
    let mut colour = false;
    for c in text.chars().filter(|c| *c != '\r') {
        match c {
            '\x1b' => colour = true,
            'm' if colour => colour = false,
            _ if colour => {}
            c => bare.push(c),
        }
    }
    Some(bare.lines().map(str::to_owned).collect())
}

#[test]
fn no_line_of_a_drill_is_wider_than_the_terminal() {
    let place = Place::new().unwrap();
    let name = "i-0123456789abcdef0-with-a-name-that-is-longer-than-half";
    let server = format!("location / {{ add_header X-Instance-Id {name}; return 200; }}");
    let nginx = Nginx::start(&place, "", &server).unwrap();
    std::fs::create_dir_all(place.join("log")).unwrap();
    let url = format!("--url http://{}/a/path/that/takes/its/room/in/a/line", nginx.addr);
    for (args, word) in [
        (format!("drill failover --observe --secs 1 --before 1s {url}"), "hypothesis"),
        (format!("drill failover --observe --secs 1 --before 1s --baseline last {url}"), "beside"),
        (
            format!("drill drain --observe --secs 1 --before 1s --expect-instance {name} {url}"),
            "safe to stop",
        ),
        (format!("drill scale --target 5 --secs 1 --watch 1s --before 1s --alarm 50 {url}"), "scaled out"),
        ("drill list".to_owned(), "scale"),
        ("drill show last".to_owned(), "scaled_out"),
    ] {
        let Some(lines) = narrow(&place, &args) else { return };
        assert!(lines.iter().any(|line| line.contains(word)), "{args}: {lines:#?}");
        let wide: Vec<&String> = lines.iter().filter(|line| line.chars().count() > COLUMNS).collect();
        assert!(wide.is_empty(), "{args}: {wide:#?}");
    }
}
