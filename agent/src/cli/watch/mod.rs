//! `agent watch`: once, as lines (`lines` says what is in one), or full screen, until a key or a signal (`signals`).

mod lines;
mod signals;

pub(super) use lines::WatchEvent;
use signals::Signals;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use hyper::header::HeaderName;
use jiff::Timestamp;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::drill::args::CheckArgs;
use super::exit::OrExit;
use super::output::Output;
use super::{Common, Exit, Failure, Settings};
use crate::config::{Asked, parse_address};
use crate::drill::client::measure::{Measure, Request, Seen};
use crate::drill::client::names;
use crate::drill::client::request::Client;
use crate::drill::client::sample::Outcome;
use crate::drill::client::target::Target;
use crate::drill::client::tls::Tls;
use crate::serve::status::Status;
use crate::stress::forecast::Capacity;
use crate::stress::host::Stat;
use crate::sys::cpu::CpuTimes;
use crate::watch::clients::Answer;
use crate::watch::daemon::{Told, listen};
use crate::watch::facts::Facts;
use crate::watch::frame::{Look, Pane, SPANS};
use crate::watch::guard;
use crate::watch::model::{self, Model};
use crate::watch::picture::{Charset, clean};
use crate::watch::svg::svg;
use crate::watch::terminal::{Key, Screen, keys};
use crate::watch::view::picture;

/// How often the picture is drawn anew, if something has changed.
const EVERY: Duration = Duration::from_secs(1);
/// How long `--once` waits for the daemon and for the clients' first answers.
const ONCE: Duration = Duration::from_secs(4);
/// An answer that takes longer is none.
const DEADLINE: Duration = Duration::from_secs(5);
/// Columns of `--once` where stdout is no terminal.
const COLUMNS: usize = 100;

/// See it all at a glance: load, probes, nginx, /health, faults, and what clients get
///
/// Full screen, on one axis of time. It only looks: nothing can be changed from here. Needs `agent serve` on this
/// machine; without it only the CPU and the clients are shown. Exit code with --once: 0 healthy, 1 unhealthy, 3 no
/// daemon answers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The load balancer, asked once a second at each of its addresses
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The target of the scaling policy, in percent of CPU
    #[arg(long, value_name = "PCT", value_parser = percent)]
    alarm: Option<f64>,
    /// One plain picture of now, and the end
    #[arg(long)]
    once: bool,
    /// With --once: the picture as a file too, in light and in dark
    #[arg(long, value_name = "FILE.svg", requires = "once")]
    svg: Option<PathBuf>,
    /// Seconds a column
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = span)]
    cell: i64,
    /// Ask these addresses instead of those that the URL's name has
    #[arg(long, value_name = "IP,…", value_delimiter = ',', requires = "url")]
    resolve: Vec<std::net::IpAddr>,
    /// The Host header, and the name on the certificate [default: the URL's]
    #[arg(long, value_name = "NAME", requires = "url")]
    host: Option<String>,
    /// The header in which an answer names its instance
    #[arg(long, value_name = "NAME", default_value = "x-instance-id")]
    instance_header: HeaderName,
    /// The daemon's admin address [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    check: CheckArgs,
}

/// The verb of the terminal's guard.
pub(super) const GUARD: &str = guard::VERB;

/// The guard of the terminal: started by the view, not by people.
pub(super) fn guard() -> Result<Exit, Failure> {
    guard::run().or_exit(Exit::CannotTell)?;
    Ok(Exit::Done)
}

fn percent(text: &str) -> Result<f64, String> {
    let pct = text.trim_end_matches('%').trim().parse().ok();
    pct.filter(|pct| *pct > 0.0 && *pct <= 100.0)
        .ok_or_else(|| format!("\"{text}\" is no percentage from 0 to 100"))
}

fn span(text: &str) -> Result<i64, String> {
    let secs = text.trim_end_matches('s').parse().ok();
    secs.filter(|secs| SPANS.contains(secs)).ok_or_else(|| format!("\"{text}\" is none of {SPANS:?}"))
}

impl Args {
    /// Shows until the user leaves.
    ///
    /// # Errors
    /// Exit 2 on wrong flags, 3 where there is no terminal.
    pub(super) fn run(self, common: &Common) -> Result<Exit, Failure> {
        let admin = self.admin.map(|addr| Asked::flag("--admin", "serve.admin", addr.to_string()));
        let settings = Settings::load(common, admin.into_iter().collect())?;
        let target = match &self.url {
            Some(url) => {
                let mut target = Target::parse(url, self.host.as_deref()).or_exit(Exit::Usage)?;
                target.instead.clone_from(&self.resolve);
                Some(target)
            }
            None => None,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let exit = runtime.block_on(self.watch(common.json, &settings, target));
        runtime.shutdown_background();
        exit
    }

    async fn watch(self, json: bool, settings: &Settings, target: Option<Target>) -> Result<Exit, Failure> {
        let clients = match target {
            Some(target) => Some(self.measure(target).await?),
            None => None,
        };
        let (tell, daemon) = channel(16);
        tokio::spawn(listen(settings.serve.admin, tell));
        let check = Some(self.check.check(None, &settings.probes));
        let asked = model::Asked { alarm_pct: self.alarm, url: self.url.clone(), check, host: host() };
        let model = Model { asked, now: now(), ..Model::default() };
        let watch = Watch {
            model,
            status: None,
            daemon,
            clients,
            cpu: CpuTimes::now().ok(),
            look: self.look(),
            held: None,
        };
        match () {
            () if self.once => watch.once(json, self.svg.as_deref()).await,
            () if json => watch.lines().await,
            () => watch.full_screen().await,
        }
    }

    async fn measure(&self, target: Target) -> Result<Measure, Failure> {
        let first = names::resolve(&target)
            .await
            .with_context(|| format!("cannot resolve {}", target.name))
            .or_exit(Exit::CannotTell)?;
        let tls = target.tls.then(|| Tls::new(&target.certificate_name())).transpose();
        let client = Client::new(
            target.clone(),
            self.instance_header.clone(),
            DEADLINE,
            tls.or_exit(Exit::CannotTell)?,
        );
        Ok(Measure::start(client, target, 1, &first))
    }

    fn look(&self) -> Look {
        let charset = Charset::of_locale(|name| std::env::var(name).ok());
        let (back, held, pane, help) = (0, false, Pane::All, false);
        Look { width: COLUMNS, height: None, charset, span: self.cell, back, held, pane, help }
    }
}

/// What is watched, and how.
struct Watch {
    model: Model,
    /// The daemon's last word.
    status: Option<Status>,
    daemon: Receiver<Told>,
    clients: Option<Measure>,
    cpu: Option<CpuTimes>,
    look: Look,
    /// The model as it was when the picture was held.
    held: Option<Model>,
}

impl Watch {
    /// Waits for the next thing that is told, and takes it.
    async fn take_next(&mut self) {
        let seen = async {
            match &mut self.clients {
                Some(clients) => clients.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(told) = self.daemon.recv() => self.take(told),
            Some(seen) = seen => if let Seen::Request(request) = seen {
                self.model.answered(&answer(&request));
            },
            else => std::future::pending().await,
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::History(history) => self.model.join(*history),
            Told::Status(status) => {
                let cpu = self.second();
                self.model.observe(now(), cpu, Ok(Facts::of(&status)));
                self.status = Some(*status);
            }
            Told::Lost(why) => {
                let cpu = self.second();
                self.status = None;
                self.model.observe(now(), cpu, Err(why));
            }
        }
    }

    /// The CPU since the last look.
    fn second(&mut self) -> Option<crate::sys::cpu::CpuShare> {
        let now = CpuTimes::now().ok()?;
        let before = self.cpu.replace(now)?;
        now.since(&before)
    }

    fn exit(&self) -> Exit {
        match &self.model.facts {
            _ if self.model.no_daemon.is_some() => Exit::CannotTell,
            Some(facts) if facts.healthy => Exit::Done,
            Some(_) => Exit::No,
            None => Exit::CannotTell,
        }
    }

    /// One picture, once there is something to see.
    async fn once(mut self, json: bool, save: Option<&Path>) -> Result<Exit, Failure> {
        let end = Instant::now() + ONCE;
        let mut looks = 0;
        while looks < 2 || self.model.cpu.is_none() || self.waits_for_clients() {
            let before = self.model.history.cells.back().cloned();
            if tokio::time::timeout_at(end, self.take_next()).await.is_err() {
                break;
            }
            looks += u32::from(before != self.model.history.cells.back().cloned());
        }
        let mut out = Output::new(json);
        out.event(&WatchEvent::of(&self.model, self.status.clone()));
        if std::io::stdout().is_terminal()
            && let Ok((width, _)) = ratatui::crossterm::terminal::size()
        {
            self.look.width = width.into();
        }
        picture(&self.model, &self.look).text().lines().for_each(|line| out.text(line));
        if let Some(file) = save {
            let saved = std::fs::write(file, self.svg());
            saved.with_context(|| format!("cannot write {}", file.display())).or_exit(Exit::CannotTell)?;
        }
        Ok(self.exit())
    }

    /// The picture as a file, which has all characters whatever the terminal has.
    fn svg(&self) -> String {
        let look = Look { charset: Charset::Unicode, ..self.look };
        svg(&picture(self.held.as_ref().unwrap_or(&self.model), &look))
    }

    fn waits_for_clients(&self) -> bool {
        self.clients.is_some() && self.model.clients.nodes.is_empty()
    }

    /// A line of JSON each second, until a signal or until nobody reads.
    async fn lines(mut self) -> Result<Exit, Failure> {
        let mut out = Output::new(true);
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signals = Signals::new()?;
        loop {
            tokio::select! {
                () = self.take_next() => {}
                signal = signals.next() => return Ok(Exit::Signal(signal)),
                _ = tick.tick() => {
                    out.event(&WatchEvent::of(&self.model, self.status.clone()));
                    if out.is_closed() {
                        return Ok(self.exit());
                    }
                }
            }
        }
    }

    async fn full_screen(mut self) -> Result<Exit, Failure> {
        let mut signals = Signals::new()?;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb {
            let why = "TERM is not set, or is \"dumb\": this terminal has no full screen; use --once";
            return Err(Failure::new(Exit::CannotTell, anyhow::anyhow!(why)));
        }
        let mut screen = Screen::take(!no_color).or_exit(Exit::CannotTell)?;
        let (tell, mut pressed) = channel(16);
        keys(tell).or_exit(Exit::CannotTell)?;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What is drawn is what has changed; a hung-up terminal ends it.
            if self.draw(&mut screen).is_err() {
                return Ok(Exit::Signal(libc::SIGHUP));
            }
            tokio::select! {
                biased;
                signal = signals.next() => match signal {
                    libc::SIGTSTP | libc::SIGCONT => screen.suspend_on(signal).or_exit(Exit::CannotTell)?,
                    signal => return Ok(Exit::Signal(signal)),
                },
                key = pressed.recv() => match key {
                    Some(Key::Quit) => return Ok(Exit::Done),
                    Some(Key::Suspend) => screen.suspend_on(libc::SIGTSTP).or_exit(Exit::CannotTell)?,
                    Some(key) => self.press(key),
                    None => return Ok(Exit::Signal(libc::SIGHUP)),
                },
                () = self.second_passes(&mut tick) => {}
            }
        }
    }

    /// Takes all that is told until the next tick: at most one picture a second is drawn.
    async fn second_passes(&mut self, tick: &mut tokio::time::Interval) {
        loop {
            tokio::select! {
                () = self.take_next() => {}
                _ = tick.tick() => return,
            }
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> std::io::Result<()> {
        let (width, height) = screen.size()?;
        self.look.width = width;
        self.look.height = Some(height);
        self.look.held = self.held.is_some();
        screen.show(&picture(self.held.as_ref().unwrap_or(&self.model), &self.look))
    }

    fn press(&mut self, key: Key) {
        let step = self.look.span * 6;
        let place = SPANS.iter().position(|span| *span == self.look.span).unwrap_or(0);
        match key {
            Key::Hold => self.held = if self.held.is_some() { None } else { Some(self.model.clone()) },
            Key::Back => self.look.back = (self.look.back + step).min(3600),
            Key::Forward => self.look.back = (self.look.back - step).max(0),
            Key::Longer => self.look.span = SPANS.get(place + 1).copied().unwrap_or(self.look.span),
            Key::Shorter => {
                self.look.span = SPANS.get(place.saturating_sub(1)).copied().unwrap_or(self.look.span)
            }
            Key::Pane => self.look.pane = self.look.pane.next(),
            Key::Help => self.look.help = !self.look.help,
            Key::Save => self.save(),
            Key::Quit | Key::Resize | Key::Suspend => {}
        }
    }

    /// Saves the picture as text and as SVG in the folder that this was started in.
    fn save(&mut self) {
        let picture = picture(self.held.as_ref().unwrap_or(&self.model), &self.look);
        let saved = std::fs::write("agent-watch.txt", picture.text())
            .and_then(|()| std::fs::write("agent-watch.svg", self.svg()));
        match saved {
            Ok(()) => self.model.tell("watch", "saved agent-watch.txt and agent-watch.svg".to_owned()),
            Err(e) => {
                self.model.tell("watch", format!("cannot save the picture here: {}", clean(&e.to_string())))
            }
        }
    }
}

/// The host's CPUs, as a forecast needs them; those that a stress may use are told by nobody.
fn host() -> Option<Capacity> {
    let cpus = Stat::open().and_then(|mut stat| stat.read()).ok()?.cpus;
    Some(Capacity { cpus: f64::from(cpus), usable: f64::from(cpus) })
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn answer(request: &Request) -> Answer {
    let error = match request.outcome {
        outcome if outcome.is_ok() => None,
        Outcome::Status(status) => Some(status.to_string()),
        Outcome::Failed(class) => Some(class.name().to_owned()),
    };
    let node = match request.node {
        SocketAddr::V4(addr) => addr.ip().to_string(),
        SocketAddr::V6(addr) => addr.ip().to_string(),
    };
    Answer { at: now(), node, instance: request.instance.as_deref().map(clean), error }
}
