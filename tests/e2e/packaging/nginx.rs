//! nginx-setup: /health through nginx, and a configuration that is never left worse than it was.

use world::machine::Machine;
use world::place::wait_until;

use super::{LONG, comes, machine, package, run, status, try_run};

const SETUP: &str = "/usr/libexec/asg-agent/nginx-setup";
const OURS: &str = "/etc/nginx/conf.d/zz-asg-agent.conf";
/// As a load balancer's probe has it: the private address and the port.
const PROBE: &str = "-H 'Host: 10.0.1.5:80' http://127.0.0.1/health";

/// One machine for all of it: nothing costs as much as a machine.
#[test]
fn nginx_hands_health_on_and_nobodys_files_are_worse_than_before() {
    let Some(machine) = package("1").and_then(|package| machine(&[package])) else { return };
    run(&machine, "rpm -i --nodeps /*-1.*.rpm");
    run(&machine, "systemctl start asg-agent");
    comes(&machine, "200");
    names_the_instance(&machine);
    with_a_conf_d(&machine);
    run(&machine, "rpm -i --nodeps /*-1.*.rpm");
    run(&machine, "systemctl start asg-agent");
    comes(&machine, "200");
    as_on_amazon_linux(&machine);
    built_from_source(&machine);
}

fn answers(machine: &Machine, args: &str, code: &str) {
    let said =
        || run(machine, "nginx -T 2>&1 | grep -v '^#' | head -n 80; tail -n 5 /var/log/nginx/error.log");
    assert!(wait_until(LONG, || status(machine, args) == code), "{args}: no {code}: {}", said());
}

/// The values of a header in an answer, with a comma between them.
fn header(machine: &Machine, name: &str, args: &str) -> String {
    let headers = run(machine, &format!("curl -s -o /dev/null -D - --max-time 5 {args} | tr -d '\\r'"));
    let pairs = headers.lines().filter_map(|line| line.split_once(": "));
    let wanted = pairs.filter(|(header, _)| header.eq_ignore_ascii_case(name));
    wanted.map(|(_, value)| value).collect::<Vec<_>>().join(",")
}

const NAME: &str = "/etc/nginx/conf.d/zz-asg-agent-instance.conf";

/// Each boot says which instance this is; nobody's header goes, and none comes twice.
fn names_the_instance(machine: &Machine) {
    let front = "http://127.0.0.1/";
    let before = run(machine, "find /etc/nginx -type f | sort | xargs cat | sha256sum");
    let mut unit = "mkdir -p /etc/systemd/system/asg-agent-nginx.service.d; printf '[Service]\\nEnvironment=AGENT_IDENTITY_HARDWARE=/tag\\n' \
                >/etc/systemd/system/asg-agent-nginx.service.d/x.conf; systemctl daemon-reload"
        .to_owned();
    run(machine, &unit);
    let boots_as = |id: &str| {
        let tag = format!("rm -f /tag; [ -z '{id}' ] || echo '{id}' >/tag");
        run(
            machine,
            &format!("{tag}; systemctl reset-failed asg-agent-nginx; systemctl start asg-agent-nginx"),
        );
    };
    boots_as("i-0a5cade0000000001");
    assert_eq!(
        run(machine, "ls /etc/nginx/conf.d"),
        "",
        "nothing is written where nginx-setup has installed nothing"
    );

    // Their own headers, in a server and for all of them; a backend that names itself.
    let sites = "add_header X-Theirs all;\n\
        server { listen 81; location / { return 200; } location /own { add_header X-Theirs own; return 200; } }\n\
        server { listen 82; location / { proxy_pass http://127.0.0.1:83; } }\n\
        server { listen 83; add_header X-Instance-Id backend; location / { return 200; } }\n";
    std::fs::write(
        machine.root().join("sites"),
        sites.replace("add_header X-Instance-Id backend", "set $a 1"),
    )
    .unwrap();
    run(machine, "cp /sites /etc/nginx/conf.d/sites.conf; systemctl reload nginx");
    run(machine, &format!("AGENT_IDENTITY_HARDWARE=/tag {SETUP} install"));
    let named = |args: &str| header(machine, "x-instance-id", args);
    let theirs = |args: &str| header(machine, "x-theirs", args);
    let [site, own, proxy] = ["81/", "81/own", "82/"].map(|end| format!("http://127.0.0.1:{end}"));
    assert_eq!((theirs(&site).as_str(), named(&site).as_str()), ("all", "i-0a5cade0000000001"));
    assert_eq!((theirs(&own).as_str(), named(&own).as_str()), ("own", ""), "theirs is never taken");
    assert_eq!(named(&proxy), "i-0a5cade0000000001", "once, as the one behind says");
    let nowhere = format!("{front}nowhere");
    assert_eq!(
        (status(machine, &nowhere).as_str(), named(&nowhere).as_str()),
        ("404", "i-0a5cade0000000001")
    );
    // The agent in this machine knows another name, or none: what it says is not said twice.
    assert_eq!(named(PROBE), header(machine, "x-instance-id", "http://127.0.0.1:8080/health"));

    // The image boots as another; then as one whose id can't be told: never a wrong one.
    boots_as("i-0a5cade0000000002");
    assert_eq!((theirs(&site).as_str(), named(&site).as_str()), ("all", "i-0a5cade0000000002"));
    boots_as("");
    assert_eq!((theirs(&site).as_str(), named(&site).as_str()), ("all", ""));
    assert_eq!(run(machine, &format!("test -e {NAME} || echo none")), "none");
    boots_as("an asset of somebody");
    assert_eq!((theirs(&site).as_str(), named(&site).as_str()), ("all", ""));

    // Where somebody's configuration names it, or forbids it, ours doesn't.
    boots_as("i-0a5cade0000000003");
    std::fs::write(machine.root().join("etc/nginx/conf.d/sites.conf"), sites).unwrap();
    boots_as("i-0a5cade0000000003");
    run(machine, "systemctl reload nginx");
    assert_eq!(named(&proxy), "backend");
    assert_eq!((theirs(&site).as_str(), named(&site).as_str()), ("all", ""));
    unit = format!("cp /sites /etc/nginx/conf.d/sites.conf; echo '# no' >{NAME}; systemctl reload nginx");
    run(machine, &unit);
    boots_as("i-0a5cade0000000003");
    assert_eq!((theirs(&site).as_str(), named(&site).as_str()), ("all", ""));
    assert_eq!(run(machine, &format!("cat {NAME}; rm {NAME}")), "# no");

    boots_as("i-0a5cade0000000004");
    run(machine, &format!("{SETUP} remove; rm /etc/nginx/conf.d/sites.conf; systemctl reload nginx"));
    assert_eq!(run(machine, "find /etc/nginx -type f | sort | xargs cat | sha256sum"), before);
}

/// The sites stay as they are.
fn with_a_conf_d(machine: &Machine) {
    assert_ne!(status(machine, PROBE), "200");
    let sites = run(machine, "find /etc/nginx -type f | sort | xargs cat | sha256sum");

    run(machine, &format!("{SETUP} install"));
    answers(machine, PROBE, "200");
    answers(machine, "http://127.0.0.1/", "200");
    assert_eq!(status(machine, "-H 'Host: 10.0.1.5' http://127.0.0.1/other"), "404");
    assert!(run(machine, &format!("{SETUP} install")).contains("as it should be"), "again does nothing");
    // The upstream's connections are kept: a new one for each probe costs four times as much.
    let taken = || run(machine, "curl -s http://127.0.0.1:8081/status | grep -o '\"accepted\":[0-9]*'");
    let before = taken();
    for _ in 0..20 {
        assert_eq!(status(machine, PROBE), "200");
    }
    let number = |text: &str| text.rsplit(':').next().unwrap().parse::<u64>().unwrap();
    assert!(number(&taken()) - number(&before) <= 4, "{before} {}", taken());

    // nginx refuses what is there: nothing of ours is left, and nginx runs on.
    run(machine, &format!("{SETUP} remove"));
    run(machine, "echo 'upstream asg_agent { server 127.0.0.1:1; }' >/etc/nginx/conf.d/theirs.conf");
    let (code, said) = try_run(machine, &format!("{SETUP} install"));
    assert!(
        code == Some(1) && said.contains("duplicate upstream") && said.contains("all is as before"),
        "{said}"
    );
    run(machine, &format!("test ! -e {OURS} && rm /etc/nginx/conf.d/theirs.conf && nginx -t"));

    // A broken configuration is nobody's to touch, nor is a file of that name that isn't ours.
    run(machine, "echo nonsense >/etc/nginx/conf.d/theirs.conf");
    let (code, said) = try_run(machine, &format!("{SETUP} install"));
    assert!(code == Some(1) && said.contains("nothing was touched"), "{said}");
    run(machine, &format!("rm /etc/nginx/conf.d/theirs.conf; echo '# mine' >{OURS}"));
    assert_eq!(try_run(machine, &format!("{SETUP} install")).0, Some(4));
    run(machine, &format!("rm {OURS}; {SETUP} install"));
    answers(machine, PROBE, "200");

    // An erased package takes its file along, and nginx serves what it served before.
    run(machine, "rpm -e asg-agent");
    assert_eq!(run(machine, "find /etc/nginx -type f | sort | xargs cat | sha256sum"), sites);
    answers(machine, "http://127.0.0.1/", "200");
    assert_ne!(status(machine, PROBE), "200");
}

/// The default server stands in nginx.conf behind the include of conf.d, and includes default.d.
fn as_on_amazon_linux(machine: &Machine) {
    let site = |include: &str| {
        format!(
            "pid /run/nginx.pid;\nevents {{}}\nhttp {{\n    include /etc/nginx/conf.d/*.conf;\n    server {{\n        \
             listen 80;\n        server_name _;\n{include}        location / {{ return 200; }}\n    }}\n}}\n"
        )
    };
    let conf = machine.root().join("etc/nginx/nginx.conf");
    std::fs::write(&conf, site("")).unwrap();
    run(machine, "systemctl reload nginx");
    let (code, said) = try_run(machine, &format!("{SETUP} install"));
    assert!(code == Some(3) && said.contains("--nginx-conf /etc/nginx/nginx.conf"), "{said}");
    assert_eq!(run(machine, "ls /etc/nginx/conf.d"), "", "a server of ours would be the default one");

    std::fs::write(&conf, site("        include /etc/nginx/default.d/*.conf;\n")).unwrap();
    run(machine, &format!("{SETUP} install"));
    assert_eq!(status(machine, PROBE), "200");
    assert_eq!(
        status(machine, "-H 'Host: 10.0.1.5' http://127.0.0.1/other"),
        "200",
        "the site is asked as before"
    );
    run(machine, &format!("{SETUP} remove"));
    assert_eq!(run(machine, "ls /etc/nginx/conf.d /etc/nginx/default.d | grep asg || echo none"), "none");
}

/// It gets one line, and a copy is kept.
fn built_from_source(machine: &Machine) {
    let conf = "/opt/nginx/conf/nginx.conf";
    run(machine, "systemctl disable --now nginx; mkdir -p /opt/nginx/conf /opt/nginx/logs /opt/nginx/sbin");
    let lines = "error_log /opt/nginx/logs/error.log;\\npid /opt/nginx/logs/nginx.pid;\\nevents {}\\nhttp {\\n    server {\\n        \
                 listen 80;\\n        location / { return 200; }\\n    }\\n}\\n";
    run(machine, &format!("printf '{lines}' >{conf}; cp {conf} /before"));
    // Its prefix is /opt/nginx, as if it had been built so.
    run(machine, &format!("mkdir -p /usr/share/nginx/logs; nginx -t -c {conf} && nginx -c {conf}"));
    let setup = format!("{SETUP} --nginx /usr/sbin/nginx");

    let (code, said) = try_run(machine, &format!("{setup} install --nginx-conf /etc/nginx/mime.types"));
    assert_ne!(code, Some(0), "{said}");
    assert_eq!(run(machine, "ls /etc/nginx/*asg* 2>/dev/null || echo none"), "none");

    run(machine, &format!("{setup} install --nginx-conf {conf}"));
    answers(machine, PROBE, "200");
    answers(machine, "http://127.0.0.1/", "200");
    run(machine, &format!("cmp /before {conf}.before-asg-agent"));
    assert!(
        run(machine, &format!("{setup} install --nginx-conf {conf}")).contains("includes"),
        "again does nothing"
    );
    assert_eq!(run(machine, &format!("grep -c asg-agent {conf}")), "1");

    // An edit of theirs since then stays when ours goes.
    run(machine, &format!("echo '# theirs' >>{conf}"));
    run(machine, "cp /usr/sbin/nginx /opt/nginx/sbin/nginx");
    run(machine, "rpm -e asg-agent");
    assert_eq!(run(machine, &format!("diff /before {conf}; true")), "9a10\n> # theirs");
    run(machine, &format!("nginx -t -c {conf}; test ! -e /opt/nginx/conf/asg-agent.conf"));
}
