//! A real nginx in a place of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::http;
use crate::place::{Place, wait_until};

/// A running nginx: master and workers as in production, started as its own daemon from its own configuration.
/// It ends with its [`Place`].
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its configuration.
    pub conf: PathBuf,
    prefix: PathBuf,
}

impl Nginx {
    /// Starts nginx on port 80 of the place's address. `server` is what stands in its server block, for example
    /// `location / { return 200; }`; `http` what stands before it, for example a `log_format`.
    ///
    /// # Errors
    /// When nginx isn't installed, doesn't start or doesn't answer.
    pub fn start(place: &Place, http: &str, server: &str) -> anyhow::Result<Self> {
        Self::start_at(place, SocketAddr::new(place.ip.into(), 80), http, server)
    }

    /// As [`start`](Self::start), but listening on `addr`.
    ///
    /// # Errors
    /// When nginx isn't installed, doesn't start or doesn't answer.
    pub fn start_at(place: &Place, addr: SocketAddr, http: &str, server: &str) -> anyhow::Result<Self> {
        let nginx = Self::configured(place, addr, http, &format!("listen {addr}; {server}"))?;
        nginx.boot()?;
        Ok(nginx)
    }

    /// One that isn't started yet, whose server says itself where it listens. `addr` is where it answers plain HTTP,
    /// if it does.
    ///
    /// # Errors
    /// When its files can't be written.
    pub fn configured(place: &Place, addr: SocketAddr, http: &str, server: &str) -> anyhow::Result<Self> {
        let prefix = place.join("nginx");
        fs::create_dir_all(prefix.join("logs"))?;
        let conf = prefix.join("nginx.conf");
        let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
        fs::write(
            &conf,
            format!(
                "{user} worker_processes 2; pid {p}/nginx.pid; error_log {p}/logs/error.log notice;\n\
                 events {{ worker_connections 512; }}\n\
                 http {{ client_body_temp_path {p}/body; proxy_temp_path {p}/proxy; fastcgi_temp_path {p}/fastcgi;\n\
                 uwsgi_temp_path {p}/uwsgi; scgi_temp_path {p}/scgi;\n{http}\n\
                 access_log {p}/logs/access.log;\nserver {{ {server} }} }}\n",
                p = prefix.display(),
            ),
        )?;
        Ok(Self { addr, conf, prefix })
    }

    /// Starts it. It listens when this returns.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn launch(&self) -> anyhow::Result<()> {
        let output = self.nginx(&[])?;
        ensure!(output.status.success(), "nginx: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts it (again) and waits until it answers.
    ///
    /// # Errors
    /// When it doesn't start or doesn't answer within 5 s.
    pub fn boot(&self) -> anyhow::Result<()> {
        self.launch()?;
        ensure!(
            wait_until(Duration::from_secs(5), || self.answers()),
            "nginx does not answer on {}",
            self.addr
        );
        Ok(())
    }

    /// Runs the nginx binary with this configuration and more arguments, such as `-s stop`.
    ///
    /// # Errors
    /// When nginx isn't installed.
    pub fn nginx(&self, args: &[&str]) -> anyhow::Result<Output> {
        Command::new("nginx")
            .arg("-c")
            .arg(&self.conf)
            .arg("-p")
            .arg(&self.prefix)
            .args(args)
            .current_dir("/")
            .output()
            .context("nginx: is it installed?")
    }

    /// Stops it and waits until its port refuses.
    ///
    /// # Errors
    /// When it can't be told to.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.nginx(&["-s", "stop"])?;
        ensure!(wait_until(Duration::from_secs(5), || !self.answers()), "nginx still answers");
        Ok(())
    }

    /// Whether it answers a request right now, whatever the status.
    pub fn answers(&self) -> bool {
        http::get(self.addr, "/", Duration::from_secs(1)).is_ok()
    }

    /// The pid of its master, by its pid file.
    ///
    /// # Errors
    /// When there is no pid file.
    pub fn master(&self) -> anyhow::Result<i32> {
        Ok(fs::read_to_string(self.prefix.join("nginx.pid"))?.trim().parse()?)
    }

    /// The pids of the master's children.
    pub fn workers(&self) -> Vec<i32> {
        let Ok(master) = self.master() else { return Vec::new() };
        let children =
            fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Its access log.
    pub fn access_log(&self) -> PathBuf {
        self.prefix.join("logs/access.log")
    }

    /// The folder that its relative paths start from.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }
}
