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
        ("[serv]\n", "agent.toml:1: [serv]: unknown field `serv`"),
        ("[serve]\n\nlisen = \"1\"\n", "agent.toml:3: serve.lisen: unknown field `lisen`"),
        ("[serve]\ndrain = \"soon\"\n", "agent.toml:2: serve.drain: \"soon\" is no duration"),
        ("[serve]\nmax_connections = 1\n", "agent.toml:2: serve.max_connections: must be from 16 to 10000"),
        ("[health]\nfall = 0\n", "agent.toml:2: health.fall: must be from 1 to 100"),
        (
            "[health]\nstale = \"1s\"\n",
            "agent.toml:2: health.stale: must be over interval and timeout together",
        ),
        (
            "[nginx]\nurl = \"https://127.0.0.1/\"\n",
            "agent.toml:2: nginx.url: \"https://127.0.0.1/\" is not like http://",
        ),
        ("[nginx]\ncheck = \"perhaps\"\n", "agent.toml:2: nginx.check: unknown variant `perhaps`"),
        (
            "[identity]\nendpoint = \"nowhere\"\n",
            "agent.toml:2: identity.endpoint: \"nowhere\" is no http:// address",
        ),
        ("[identity]\ndrain_on = [\"rain\"]\n", "agent.toml:2: identity.drain_on: unknown variant `rain`"),
        ("[serve\n", "agent.toml:1: "),
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("AGENT_HEALTH_FALL: health.fall: invalid type"));
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
