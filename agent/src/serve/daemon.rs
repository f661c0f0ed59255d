//! From two addresses to the end: bind, start, serve, drain, stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::Settings;
use super::admin::Admin;
use super::counters::Counters;
use super::events;
use super::front::{self, Front};
use super::history::History;
use super::public::Public;
use super::status::Sources;
use crate::config::spoken;
use crate::health::{self, Board, Nonce};
use crate::sys::clock::Clock;
use crate::sys::limit::{descriptors, raise_descriptors, room_for};
use crate::sys::memory;
use crate::{identity, nginx, probes, stress};

/// Connections to the admin listener at once.
const ADMIN_CONNECTIONS: usize = 16;

/// Descriptors besides those of the public listener's connections.
const OURS: usize = 48;

/// After so long the start is over: the log is found, the metadata service has answered or doesn't.
const SETTLED: Duration = Duration::from_secs(3);

/// All that the daemon needs to know.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// `[serve]`
    pub serve: Settings,
    /// `[health]`
    pub health: health::Settings,
    /// `[nginx]`
    pub nginx: nginx::target::Settings,
    /// `[identity]`
    pub identity: identity::Settings,
    /// `[probes]`
    pub probes: probes::Settings,
    /// The folder of the fault record and of the place in the log.
    pub state: PathBuf,
    /// The folder of the records of running stresses.
    pub run: PathBuf,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address can't be had.
    #[error("{key}: cannot listen on {addr}: {why}{}", hint(why, *addr))]
    Bind {
        /// The setting.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        why: io::Error,
    },
    /// The system is out of something.
    #[error("cannot {what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        why: io::Error,
    },
}

fn hint(why: &io::Error, addr: SocketAddr) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => format!(" (`ss -ltnp sport = :{}` shows who does)", addr.port()),
        io::ErrorKind::PermissionDenied => " (ports below 1024 need root or CAP_NET_BIND_SERVICE)".to_owned(),
        _ => String::new(),
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> ServeError {
    move |why| ServeError::System { what, why }
}

/// Serves until a signal ends it; returns which.
///
/// # Errors
/// When an address can't be had or the system is out of threads.
pub fn run(mut inputs: Inputs) -> Result<i32, ServeError> {
    let bind = |key, addr| front::bind(addr).map_err(|why| ServeError::Bind { key, addr, why });
    let public = bind("serve.listen", inputs.serve.listen)?;
    let admin = bind("serve.admin", inputs.serve.admin)?;
    // Each connection has one, and something is left for the checks.
    let wanted = inputs.serve.max_connections as u64 + OURS as u64;
    raise_descriptors(wanted);
    room_for(OURS).map_err(system("have the descriptors that it takes (`ulimit -n`)"))?;
    let allowed = descriptors();
    if allowed < wanted {
        let most = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(OURS).max(1);
        tracing::warn!(
            "{allowed} open files are allowed (ulimit -n): {most} connections at once, not serve.max_connections = {}",
            inputs.serve.max_connections
        );
        inputs.serve.max_connections = most;
    }
    runtime().map_err(system("start the runtime"))?.block_on(daemon(inputs, public, admin))
}

async fn daemon(inputs: Inputs, public: TcpListener, admin: TcpListener) -> Result<i32, ServeError> {
    let started = Instant::now();
    let catch = |kind| signal(kind).map_err(system("catch signals"));
    let signals = Signals {
        terminate: catch(SignalKind::terminate())?,
        interrupt: catch(SignalKind::interrupt())?,
        hangup: catch(SignalKind::hangup())?,
    };
    let nonce = Nonce::draw();
    stress::manners::sweep();
    let watcher = probes::watcher::start(inputs.probes, inputs.nginx.conf.clone(), &inputs.state)
        .map_err(system("watch the access log"))?;
    let (board, mut report) = health::start(health::Inputs {
        settings: inputs.health,
        nginx: inputs.nginx,
        state: inputs.state,
        drain_on: inputs.identity.drain_on.clone(),
        identity: identity::watch(inputs.identity),
        nonce: nonce.clone(),
        proc: "/proc".into(),
        clock: Clock::of_machine(),
    })
    .map_err(system("start the samplers"))?;

    let counters = Arc::new(Counters::default());
    let (stop, stopped) = watch::channel(false);
    let listen = public.local_addr().map_err(system("ask for the own address"))?;
    let front = Front {
        service: Public::new(board.clone(), nonce, watcher.direct(), counters.clone()),
        max_connections: inputs.serve.max_connections,
        counters: counters.clone(),
        realtime: inputs.serve.realtime,
    };
    let serving =
        spawn_serving(public, front, stopped.clone()).map_err(system("start the serving thread"))?;
    let (keep, hour) = watch::channel(History::default());
    let sources = Sources {
        started,
        started_at: jiff::Timestamp::now(),
        listen,
        board: board.clone(),
        report: report.clone(),
        probes: watcher.snapshots(),
        run: inputs.run,
        counters,
        history: hour,
    };
    let sources = Arc::new(sources);
    let kept = sources.clone();
    let admin_addr = admin.local_addr().map_err(system("ask for the own address"))?;
    let admin_front = Front {
        service: Admin::new(sources),
        max_connections: ADMIN_CONNECTIONS,
        counters: Arc::default(),
        realtime: false,
    };
    let admin = tokio::task::spawn_local(front::serve(admin, admin_front, stopped));

    // Before the first sample there is no verdict to be ready with.
    let sampled = |report: &health::Report| report.nginx_target.is_none() || report.nginx_up.is_some();
    let _ = report.wait_for(|report| sampled(report) && board.is_fresh(Instant::now())).await;
    tracing::info!("/health on http://{listen}, /status and /metrics on http://{admin_addr}");
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let history = tokio::task::spawn_local(events::keep_history(kept, keep));
    let settled = tokio::task::spawn_local(async {
        tokio::time::sleep(SETTLED).await;
        memory::release_heap();
        memory::release_code();
    });
    let ended_by = until_signal(signals, &board, inputs.serve.drain.0).await;

    settled.abort();
    history.abort();
    stop.send_replace(true);
    let _ = serving.await;
    let _ = admin.await;
    Ok(ended_by)
}

/// The thread that answers probes, and does nothing else; what is returned ends with it.
fn spawn_serving(
    listener: TcpListener,
    front: Front<Public>,
    stop: watch::Receiver<bool>,
) -> io::Result<oneshot::Receiver<()>> {
    let (tell, told) = mpsc::sync_channel(1);
    let (alive, ended) = oneshot::channel::<()>();
    thread::Builder::new().name("serve".into()).spawn(move || match runtime() {
        Ok(runtime) => {
            let _ = tell.send(Ok(()));
            if let Err(e) = runtime.block_on(front::serve(listener, front, stop)) {
                tracing::error!("cannot serve: {e}");
            }
            drop(alive);
        }
        Err(e) => drop(tell.send(Err(e))),
    })?;
    told.recv().map_err(io::Error::other)??;
    Ok(ended)
}

/// A runtime that stays on the thread that made it: its tasks share without locks.
fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// What ends the daemon, and what is only caught.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Feeds the watchdog while the samples are fresh, until a signal. SIGTERM drains first: 503 at once, and serving
/// goes on for `drain` or until another signal.
async fn until_signal(signals: Signals, board: &Board, drain: Duration) -> i32 {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    let watchdog = sd_notify::watchdog_enabled();
    let mut feed = watchdog.map(|limit| tokio::time::interval(limit / 2));
    loop {
        let due = async {
            match &mut feed {
                Some(feed) => feed.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = due => if board.is_fresh(Instant::now()) {
                let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            },
            _ = terminate.recv() => break,
            _ = hangup.recv() => tracing::info!("SIGHUP changes nothing: settings are read at the start; restart the agent"),
            _ = interrupt.recv() => {
                board.drain();
                return libc::SIGINT;
            }
        }
    }
    board.drain();
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    tracing::info!("SIGTERM: draining for {}, then the end", spoken(drain));
    tokio::select! {
        () = tokio::time::sleep(drain) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    libc::SIGTERM
}
