//! The load of a drill of scaling: `agent stress` beside it. However the drill ends, so does the load.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::config::Span;
use crate::stress::events::StressEvent;
use crate::sys::spawn;

/// The alarm that is to fire.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// The policy's target, in percent.
    pub target_pct: f64,
    /// Other instances in the group.
    pub others: u32,
    /// The group's instance warm-up, where it is named.
    pub warmup: Option<Span>,
}

/// The load. Dropped, it ends.
#[derive(Debug)]
pub struct Load {
    child: Child,
    told: UnboundedReceiver<StressEvent>,
}

impl Load {
    /// Holds this host at `target` percent for `secs`; with an alarm it also tells when that will fire. It must be the main thread that calls: the load ends with the
    /// thread that began it.
    ///
    /// # Errors
    /// When there is no process for it.
    pub fn start(target: f64, secs: Span, alarm: Option<Watched>, config: Option<&Path>) -> io::Result<Self> {
        let mut stress = Command::new("/proc/self/exe");
        stress.args(["stress", "--json", "--target", &target.to_string(), "--secs", &secs.to_string()]);
        if let Some(Watched { target_pct, others, warmup }) = alarm {
            stress.args(["--alarm", &target_pct.to_string(), "--fleet", &others.to_string()]);
            if let Some(warmup) = warmup {
                stress.args(["--warmup", &warmup.to_string()]);
            }
        }
        if let Some(config) = config {
            stress.arg("--config").arg(config);
        }
        stress.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = spawn::ended_with_us(&mut stress).spawn()?;
        let (tell, told) = unbounded_channel();
        if let Some(pipe) = child.stdout.take() {
            std::thread::Builder::new().name("load".into()).spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    // A line that we don't know is a newer agent's.
                    if let Ok(event) = serde_json::from_str(&line)
                        && tell.send(event).is_err()
                    {
                        return;
                    }
                }
            })?;
        }
        Ok(Self { child, told })
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    /// When the system doesn't tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it has told since.
    pub fn told(&mut self) -> Option<StressEvent> {
        self.told.try_recv().ok()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}
