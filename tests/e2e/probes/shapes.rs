//! Configurations of the shapes that people have, each judged beside what `nginx -t` says of it and what a real nginx
//! writes with it.

use std::process::Command;

use world::http;
use world::place::wait_until;

use super::*;

/// What has to come out.
enum Expected {
    /// So many of the four probes are read, by the formats of these names, one a log that has lines.
    Probes(u64, &'static [&'static str]),
    /// Nothing can be told, and this is said. `{conf}` is the configuration's path.
    Told(&'static str),
    /// nginx and the agent refuse it at the same file and line.
    Refused,
}

use Expected::{Probes, Refused, Told};

/// A configuration: what stands in `http`, what stands in its server. `{p}` is a folder of its own.
type Shape = (&'static str, &'static str, &'static str, Expected);

const MAIN: &str = r#"log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';"#;

#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    ("nginx's own format", "access_log {p}/a.log;", "", Probes(4, &["combined"])),
    ("named combined", "access_log {p}/a.log combined;", "", Probes(4, &["combined"])),
    ("the packages' format", "MAIN access_log {p}/a.log main;", "", Probes(4, &["main"])),
    ("a path in quotes", "access_log '{p}/a b.log';", "", Probes(4, &["combined"])),
    ("a path that starts from the prefix", "access_log a.log;", "", Probes(4, &["combined"])),
    ("two formats in one file, the first without an address",
        r#"log_format x '$http_x_forwarded_for - [$time_local] "$request" $status "$http_user_agent"'; access_log {p}/a.log x;"#,
        "location = /health { access_log {p}/a.log combined; return 200; }", Probes(4, &["combined"])),
    ("every request in two formats in one file", "MAIN access_log {p}/a.log main; access_log {p}/a.log;", "", Probes(8, &["combined"])),
    ("a log of its own for /health", "access_log {p}/a.log;", "location = /health { access_log {p}/health.log; return 200; }", Probes(4, &["combined", "combined"])),
    ("off, but for /health", "access_log off;", "location = /health { access_log {p}/health.log; return 200; }", Probes(4, &["combined"])),
    ("a log for each server", "access_log {p}/all.log;", "access_log {p}/first.log; } server { listen 127.0.0.1:1; access_log {p}/second.log;", Probes(4, &["combined"])),
    ("off for /health", "access_log {p}/a.log;", "location = /health {\naccess_log off; return 200; }", Told("access_log is off")),
    ("only to syslog", "\naccess_log syslog:server=127.0.0.1:1 combined;", "", Told("access_log goes to syslog:server=127.0.0.1:1")),
    ("a file for each host", "\naccess_log {p}/$host.log;", "", Told("is a file for each value of its variables")),
    ("to a device", "\naccess_log /dev/null;", "", Told("access_log /dev/null is no file")),
    ("all but the load balancer", "map $http_user_agent $log { ~ELB 0; default 1; } access_log {p}/a.log combined if=$log;", "", Told("leaves out requests (if=$log)")),
    ("only the load balancer", "map $http_user_agent $log { ~ELB 1; default 0; } access_log {p}/a.log combined if=$log;", "", Probes(4, &["combined"])),
    ("held back", "access_log {p}/a.log combined buffer=4k flush=1s;", "", Probes(4, &["combined"])),
    ("compressed", "access_log {p}/a.log combined gzip;", "", Told("it is compressed")),
    ("JSON", r#"log_format j escape=json '{"t":"$time_iso8601","a":"$remote_addr","r":"$request","s":$status,"u":"$http_user_agent"}'; access_log {p}/a.log j;"#, "", Probes(4, &["j"])),
    ("JSON without its escapes", r#"log_format j '{"t":"$time_local","a":"$remote_addr","m":"$request_method","p":"$uri$is_args$args","s":"$status","u":"$http_user_agent"}'; access_log {p}/a.log j;"#, "", Probes(4, &["j"])),
    ("JSON escaped in double quotes", r#"log_format j "{\"t\":\"$time_local\",\"a\":\"$remote_addr\",\"u\":\"$http_user_agent\"}"; access_log {p}/a.log j;"#, "", Probes(4, &["j"])),
    ("JSON not escaped at all", r#"log_format j escape=none '{"t":"$time_local","a":"$remote_addr","u":"$http_user_agent","q":"$request"}'; access_log {p}/a.log j;"#, "", Probes(4, &["j"])),
    ("variables side by side", r#"log_format x '$remote_addr - [$time_local] "$request_method $scheme://$host$request_uri $server_protocol" $status "$http_user_agent"'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("nothing between two variables", r#"log_format x '$remote_addr [$time_local] $request_method$uri$args $upstream_addr$upstream_status "$http_user_agent"'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("the address behind the forwarded ones", r#"log_format x '$proxy_add_x_forwarded_for - [$time_local] "$request" $status "$http_user_agent"'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("the peer's address alone", r#"log_format x '$realip_remote_addr [$time_local] "$http_user_agent"'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("milliseconds and bars", "log_format x '$msec|$remote_addr:$remote_port|$http_user_agent|$request|$status|$request_time'; access_log {p}/a.log x;", "", Probes(4, &["x"])),
    ("tabs and names", r#"log_format x "host:$remote_addr\ttime:[$time_iso8601]\tua:$http_user_agent\tst:$status"; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("a dash first", r#"log_format x '- $remote_addr [$time_local] "$http_user_agent"'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("braces around names", r#"log_format x '${remote_addr} [${time_local}] "${http_user_agent}"'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("brackets around the User-Agent", "log_format x '[$time_local] [$remote_addr] [$http_user_agent] [$request]'; access_log {p}/a.log x;", "", Probes(4, &["x"])),
    ("upstreams that weren't asked", r#"log_format x '$remote_addr [$time_local] "$request" $status $upstream_response_time $upstream_addr $upstream_cache_status "$http_user_agent" $gzip_ratio $pipe .'; access_log {p}/a.log x;"#, "", Probes(4, &["x"])),
    ("a format in pieces and comments", "log_format x '$remote_addr ' # who\n '[$time_local] ' # when }\n '\"$http_user_agent\"'; access_log {p}/a.log x;", "", Probes(4, &["x"])),
    ("a format that is defined later", "access_log {p}/a.log combined; MAIN", "", Probes(4, &["combined"])),
    ("all in a file that is included", "include {p}/conf.d/*.conf;", "", Probes(4, &["inc"])),
    ("braces in patterns", "access_log {p}/a.log;", r#"location ~ "^/h[a-z]{5}$" { return 200; } if ($uri = "/}") { return 404; }"#, Probes(4, &["combined"])),
    ("words that look like ends", r#"map $uri $x { "~}" 1; '{' 2; default "a;b"; } access_log {p}/a.log;"#, "add_header X-Y '}'; ", Probes(4, &["combined"])),
    ("behind a condition in a location", "access_log {p}/a.log;", "location = /health { if ($http_user_agent ~ ELB) { access_log {p}/elb.log; } return 200; }", Probes(4, &["combined", "combined"])),
    ("one file by two names", "MAIN access_log {p}/a.log main;", "location = /health { access_log {p}/./a.log; return 200; }", Probes(4, &["combined"])),
    ("a format of several lines", "log_format x '{\n \"a\": \"$remote_addr\", \"t\": $msec,\n \"u\": \"$http_user_agent\" }'; access_log {p}/a.log x;", "", Told("a format of several lines cannot be followed")),
    ("an include that finds nothing", "include {p}/none/*.conf; access_log {p}/a.log;", "", Probes(4, &["combined"])),
    ("a format that nothing uses", "log_format odd '$connection'; access_log {p}/a.log;", "", Probes(4, &["combined"])),
    ("the same log in the server again", "MAIN access_log {p}/a.log main;", "access_log {p}/a.log main;", Probes(4, &["main"])),
    ("a condition that an if sets", "access_log {p}/a.log combined if=$l;", "set $l 1; if ($uri = /first) { set $l 0; }", Probes(4, &["combined"])),
    ("no User-Agent in the format", "log_format x '$remote_addr [$time_local] $status'; access_log {p}/a.log x;", "", Told("the log format has no $http_user_agent")),
    ("a quote that is never closed", "\naccess_log '{p}/a.log;", "", Refused),
    ("an end too many", "access_log {p}/a.log; } }\n", "", Refused),
    ("an include that is missing", "\n\ninclude {p}/none.conf;", "", Refused),
    ("a quote with a letter behind it", "\naccess_log '{p}/a'b;", "", Refused),
];

/// Writes a shape's configuration into a folder of its own.
fn write(place: &Place, number: usize, shape: &Shape) -> (PathBuf, PathBuf) {
    let folder = place.join(&format!("shape{number}"));
    fs::create_dir_all(folder.join("conf.d")).unwrap();
    let p = folder.display().to_string();
    let fill = |text: &str| text.replace("{p}", &p).replace("MAIN", MAIN);
    let included = r#"log_format inc '$remote_addr $msec "$http_user_agent"'; access_log {p}/a.log inc;"#;
    fs::write(folder.join("conf.d/log.conf"), fill(included)).unwrap();
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let server = if shape.2.contains("/health") { "" } else { "location = /health { return 200; }" };
    let text = format!(
        "{user} worker_processes 1; pid {p}/pid; error_log {p}/error.log;\nevents {{ }}\nhttp {{\n\
         client_body_temp_path {p}/t1; proxy_temp_path {p}/t2; fastcgi_temp_path {p}/t3; uwsgi_temp_path {p}/t4;\n\
         scgi_temp_path {p}/t5;\n{http}\nserver {{ listen {ip}:80; location / {{ return 200; }}\n{server}\n{own}\n}}\n}}\n",
        http = fill(shape.1),
        own = fill(shape.2),
        ip = place.ip,
    );
    let conf = folder.join("nginx.conf");
    fs::write(&conf, text).unwrap();
    (folder, conf)
}

fn nginx(folder: &Path, conf: &Path, more: &[&str]) -> std::process::Output {
    let prefix = format!("{}/", folder.display());
    Command::new("nginx").args(["-p", &prefix, "-c"]).arg(conf).args(more).output().unwrap()
}

/// Lets nginx log four probes and another request by this configuration.
fn log_with(place: &Place, folder: &Path, conf: &Path) {
    let started = nginx(folder, conf, &[]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let addr = std::net::SocketAddr::new(place.ip.into(), 80);
    let ask = |path: &str, agent: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: web.example\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
        );
        http::exchange(addr, None, request.as_bytes(), LIMIT).is_ok()
    };
    assert!(wait_until(LIMIT, || ask("/first", "curl/8")));
    for _ in 0..4 {
        assert!(ask("/health", "ELB-HealthChecker/2.0"));
    }
    nginx(folder, conf, &["-s", "quit"]);
    assert!(wait_until(LIMIT, || !folder.join("pid").exists()));
}

/// What the agent says: its exit code, the last event, and all of it.
fn judged(place: &Place, conf: &Path) -> (i32, Value) {
    let output = run(place, &["probes", "--once", "--json", "--conf", conf.to_str().unwrap()]).unwrap();
    (output.status.code().unwrap(), events(&output.stdout).last().cloned().unwrap_or_default())
}

#[test]
fn configurations_of_every_shape_are_read_as_nginx_reads_them() {
    let place = Place::new().unwrap();
    assert!(SHAPES.len() >= 40);
    for (number, shape) in SHAPES.iter().enumerate() {
        let name = shape.0;
        let (folder, conf) = write(&place, number, shape);
        let tested = nginx(&folder, &conf, &["-t"]);
        let said = String::from_utf8_lossy(&tested.stderr).into_owned();
        assert_eq!(tested.status.success(), !matches!(shape.3, Refused), "{name}: {said}");
        if tested.status.success() {
            log_with(&place, &folder, &conf);
        }
        let (code, last) = judged(&place, &conf);
        match &shape.3 {
            Probes(count, formats) => {
                let mut used: Vec<&str> =
                    last["formats"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                used.sort_unstable();
                assert_eq!(
                    (&last["probes"], used.as_slice()),
                    (&(*count).into(), *formats),
                    "{name}: {last}"
                );
            }
            Told(text) => {
                assert_eq!(code, 3, "{name}: {last}");
                assert!(last.to_string().contains(text), "{name}: {last}");
            }
            Refused => {
                assert_eq!(code, 2, "{name}: {last}");
                // nginx's own place: `… in FILE:LINE`.
                let place =
                    said.lines().find_map(|line| line.split(" in ").last().filter(|p| p.contains(':')));
                let place = place.unwrap_or_default().trim();
                assert!(last.to_string().contains(place) && place.len() > 3, "{name}: {last}\n{said}");
            }
        }
    }
}
