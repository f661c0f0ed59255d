//! nginx as the first process of a container: what would end it would end the container, and all else is allowed.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use world::agent::{self, Running};
use world::nginx::Nginx;
use world::place::{Place, wait_until};

use super::{LONG, exists, finish};

/// A pid namespace whose first process is nginx.
struct Container {
    unshare: Child,
    nginx: Nginx,
    place: Place,
}

impl Container {
    fn new() -> Self {
        let place = Place::new().unwrap();
        let addr = std::net::SocketAddr::new(place.ip.into(), 80);
        let server = format!("listen {addr}; location / {{ return 200; }}");
        let nginx = Nginx::configured(&place, addr, "daemon off;", &server).unwrap();
        let conf = std::fs::read_to_string(&nginx.conf).unwrap();
        std::fs::write(&nginx.conf, format!("daemon off;\n{}", conf.replace("daemon off;\n", ""))).unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount-proc", "--fork", "--kill-child", "nginx", "-c"]).arg(&nginx.conf);
        unshare.arg("-p").arg(nginx.prefix()).current_dir("/").stdin(Stdio::null());
        let container = Self { unshare: unshare.spawn().unwrap(), nginx, place };
        assert!(wait_until(LONG, || container.nginx.answers()));
        container
    }

    /// Its first process, as seen from here.
    fn first(&self) -> i32 {
        let path = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// `agent fail` within it.
    fn fail(&self, args: &str) -> Command {
        let conf = self.nginx.conf.to_str().unwrap();
        let mut all = vec!["fail", "--json", "--conf", conf];
        all.extend(args.split(' '));
        let fail = agent::command(&self.place, &all);
        let mut within = Command::new("nsenter");
        within.args(["--pid", "--mount", "-t", &self.first().to_string(), "--"]);
        within.arg(fail.get_program()).args(fail.get_args()).current_dir(self.place.path()).env_clear();
        within.envs(fail.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        within
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

#[test]
fn an_nginx_that_is_process_1_is_never_ended_and_everything_else_is_possible() {
    let container = Container::new();
    let first = container.first();
    for mode in ["stop", "crash"] {
        for more in ["", " --force", " --dry-run"] {
            let (code, _, stderr) = finish(container.fail(&format!("--mode {mode} --secs 1{more}")));
            assert!(code == 4 && stderr.contains("nginx is process 1 here"), "{mode}{more}: {code} {stderr}");
        }
    }
    for end in [None, Some(Signal::SIGTERM)] {
        let secs = if end.is_some() { 250 } else { 2 };
        let fail = container.fail(&format!("--mode hang --secs {secs}"));
        let mut running = Running::spawn(&container.place, fail).unwrap();
        running.event("effective", LONG).unwrap();
        let expected = match end {
            None => 0,
            Some(_) => {
                assert!(!container.nginx.answers());
                let agent = agent::processes(&container.place);
                assert!(!agent.is_empty());
                // nsenter is its parent: it passes no signal on.
                let command = agent.into_iter().find(|pid| is_command(*pid)).unwrap();
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(command), Signal::SIGTERM).unwrap();
                143
            }
        };
        assert_eq!(running.event("result", LONG).unwrap()["recovered"], true);
        assert_eq!(running.wait(LONG).unwrap().code(), Some(expected));
        assert!(container.nginx.answers() && exists(first) && container.first() == first);
    }
}

fn is_command(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|b| *b == 0).any(|w| w == b"fail"))
}
