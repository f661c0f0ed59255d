//! `agent serve`.

use std::net::SocketAddr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::settings::log_level;
use super::{Common, Exit, Failure, Settings};
use crate::config::{Asked, parse_address};
use crate::serve;
use crate::sys::log::{self, Line, Log};

/// Answer the load balancer's health checks, truthfully and never late
///
/// GET /health on the public address says 200 while nginx answers and 503 otherwise. /status and /metrics are on the
/// admin address, for this machine only. Ends on SIGTERM: 503 for the drain time first.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where /health is answered [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// Where /status and /metrics are answered; loopback only [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    admin: Option<SocketAddr>,
    /// What to ask nginx for [default: what its configuration listens on, else http://127.0.0.1/]
    #[arg(long, value_name = "URL", group = "nginx")]
    nginx_url: Option<String>,
    /// Don't look at nginx: healthy while the agent runs
    #[arg(long, group = "nginx")]
    no_nginx: bool,
    /// Unhealthy also where no nginx is installed
    #[arg(long, group = "nginx")]
    require_nginx: bool,
}

impl Args {
    fn asked(self) -> Vec<Asked> {
        let flag = |place, key, value: Option<String>| value.map(|value| Asked::flag(place, key, value));
        [
            flag("--listen", "serve.listen", self.listen.map(|a| a.to_string())),
            flag("--admin", "serve.admin", self.admin.map(|a| a.to_string())),
            flag("--nginx-url", "nginx.url", self.nginx_url),
            flag("--no-nginx", "nginx.check", self.no_nginx.then(|| "off".to_owned())),
            flag("--require-nginx", "nginx.check", self.require_nginx.then(|| "required".to_owned())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Serves until a signal.
    ///
    /// # Errors
    /// Exit 2 on wrong settings and where an address can't be had, 3 where the system has no descriptors or threads.
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let settings = Settings::load(common, self.asked())?;
        log_to_stderr(log_level()?);
        let ended_by = serve::run(serve::Inputs {
            serve: settings.serve,
            health: settings.health,
            nginx: settings.nginx,
            identity: settings.identity,
            probes: settings.probes,
            state: settings.paths.state,
            run: settings.paths.run,
        })
        .map_err(|e| {
            let exit =
                if matches!(e, serve::ServeError::Bind { .. }) { Exit::Usage } else { Exit::CannotTell };
            Failure::new(exit, e)
        });
        log::flush();
        let ended_by = ended_by?;
        Ok(if ended_by == libc::SIGTERM { Exit::Done } else { Exit::Signal(ended_by) })
    }
}

/// Logs go to stderr, through a queue; without times under systemd, which has its own.
fn log_to_stderr(level: LevelFilter) {
    use std::io::IsTerminal;
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let queue = Log::to(std::io::stderr());
    log::keep(&queue);
    let fmt = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Lines(queue))
        .with_target(false)
        .log_internal_errors(false);
    // Where a log was set up before, that one goes on.
    let _ = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => fmt.with_ansi(false).without_time().try_init(),
        None => fmt.with_ansi(colours).try_init(),
    };
}

/// Each event is one line of the queue.
struct Lines(Log);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line::new(&self.0)
    }
}
