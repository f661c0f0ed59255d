//! Settings that are wrong end the start with exit 2 and a line that names the place, before anything is bound.

use std::net::{SocketAddr, TcpListener, TcpStream};

use world::agent::{self, configure};
use world::place::Place;

/// Starts with this file and these flags; returns the exit code and what it said.
fn refused(place: &Place, toml: &str, args: &[&str]) -> (Option<i32>, String) {
    configure(place, toml).unwrap();
    let listen = format!("--listen={}:8080", place.ip);
    let admin = format!("--admin={}:8081", place.ip);
    let mut all = vec!["serve"];
    if !args.iter().any(|a| a.starts_with("--admin")) {
        all.push(&admin);
    }
    if !args.iter().any(|a| a.starts_with("--listen")) {
        all.push(&listen);
    }
    all.extend(args);
    let output = agent::run(place, &all).unwrap();
    assert!(TcpStream::connect(SocketAddr::new(place.ip.into(), 8080)).is_err(), "nothing is bound");
    let text = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", place.path().display()), "");
    (output.status.code(), text)
}

#[test]
fn each_wrong_setting_has_its_message() {
    let place = Place::new().unwrap();
    for (toml, message) in [
        ("[serv]\n", "agent.toml:1: serv: unknown setting `serv`"),
        ("[serve]\n\nlisen = \"1\"\n", "agent.toml:3: serve.lisen: unknown setting `lisen`"),
        ("[serve]\ndrain = \"soon\"\n", "agent.toml:2: serve.drain: \"soon\" is no duration"),
        ("[serve]\nmax_connections = 1\n", "agent.toml:2: serve.max_connections: must be from 16 to 10000"),
        ("[health]\nfall = 0\n", "agent.toml:2: health.fall: must be from 1 to 100"),
        (
            "[health]\nstale = \"1s\"\n",
            "agent.toml:2: health.stale: must be over interval and timeout together",
        ),
        (
            "[nginx]\nurl = \"ftp://127.0.0.1/\"\n",
            "agent.toml:2: nginx.url: \"ftp://127.0.0.1/\" is not like http://",
        ),
        ("[nginx]\ncheck = \"perhaps\"\n", "agent.toml:2: nginx.check: unknown value `perhaps`"),
        (
            "[identity]\nendpoint = \"nowhere\"\n",
            "agent.toml:2: identity.endpoint: \"nowhere\" is no http:// address",
        ),
        ("[identity]\ndrain_on = [\"rain\"]\n", "agent.toml:2: identity.drain_on: unknown value `rain`"),
        ("[serve\n", "agent.toml:1: "),
        ("\u{feff}serve = { max_connections = 3 }\n", "agent.toml:1: serve.max_connections: must be from 16"),
        ("[\"serve\"]\n\"max_connections\" = -1\n", "agent.toml:2: serve.max_connections: -1 is not a whole"),
        (
            "[serve]\nlisten = \":80\"\n",
            "agent.toml:2: serve.listen: \":80\" is no address with a port: write",
        ),
    ] {
        let (code, text) = refused(&place, toml, &[]);
        assert_eq!(code, Some(2), "{toml}: {text}");
        assert!(text.contains(message), "{toml}: {text}");
        assert_eq!(text.trim().lines().count(), 1, "one line: {text}");
    }
}

#[test]
fn a_flag_that_is_wrong_is_named() {
    let place = Place::new().unwrap();
    let (code, text) = refused(&place, "", &["--admin=0.0.0.0:8081"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--admin: serve.admin: 0.0.0.0 is not a loopback address"), "{text}");
    assert_eq!(refused(&place, "", &["--listen=nowhere"]).0, Some(2));
    assert_eq!(refused(&place, "", &["--no-nginx", "--require-nginx"]).0, Some(2));
    assert_eq!(refused(&place, "", &["--nginx-url=ftp://x/"]).0, Some(2));
}

#[test]
fn a_file_that_was_named_must_be_there_and_a_variable_is_named_too() {
    let place = Place::new().unwrap();
    let missing = agent::run(&place, &["serve", "--config", "/nonexistent.toml"]).unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("cannot read /nonexistent.toml: No such file"));
    let output = agent::command(&place, &["serve"]).env("AGENT_HEALTH_FALL", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("AGENT_HEALTH_FALL: health.fall: \"x\" is not a whole number")
    );
}

#[test]
fn a_level_of_the_log_that_is_none_is_refused_and_a_foreign_variable_is_not() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new().unwrap();
    let output = agent::command(&place, &["serve"]).env("AGENT_LOG", "loud").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("AGENT_LOG: \"loud\" is none of off, error"), "{text}");
    let admin = format!("--admin={}:8081", place.ip);
    let mut status = agent::command(&place, &["status", &admin]);
    assert_eq!(status.env("X", OsStr::from_bytes(b"\xff")).output().unwrap().status.code(), Some(3));
}

#[test]
fn a_wrong_flag_is_told_in_json_where_json_is_asked_for() {
    let place = Place::new().unwrap();
    let output = agent::run(&place, &["stress", "--json", "--sec", "3"]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = &agent::events(&output.stdout)[0];
    assert_eq!((&error["event"], &error["exit"]), (&"error".into(), &2.into()), "{error}");
    let alone = agent::run(&place, &[]).unwrap();
    assert_eq!(alone.status.code(), Some(2));
    let help = String::from_utf8_lossy(&alone.stderr);
    assert!(help.contains("Usage: agent") && !help.contains("__keep"), "{help}");
}

#[test]
fn a_port_in_use_is_named_and_says_how_to_find_who_uses_it() {
    let place = Place::new().unwrap();
    let taken = TcpListener::bind(SocketAddr::new(place.ip.into(), 9000)).unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let (code, text) = refused(&place, "", &[&listen]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("serve.listen: cannot listen on") && text.contains("ss -ltnp sport = :9000"),
        "{text}"
    );
}
