//! The fault of a drill: `agent fail` in a thread of its own, with what it tells on a channel. Its keeper and its lease
//! are those of any fault: it ends also when the drill is killed.

use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::Paths;
use crate::fault::event::{Outcome, Step, Told};
use crate::fault::preflight::Request;
use crate::fault::{self, FaultError};

/// What happens to the fault.
#[derive(Debug)]
pub enum Happening {
    /// It tells something.
    Told(Instant, Told),
    /// It is over, or there never was one.
    Over(Box<Result<Outcome, FaultError>>),
    /// It could not be ended early; the keeper goes on trying.
    NotEnded(FaultError),
}

/// A fault that is being made, is in force, or is being ended.
#[derive(Debug)]
pub struct Breaker {
    happenings: UnboundedReceiver<Happening>,
    tell: UnboundedSender<Happening>,
    paths: Paths,
    is_armed: bool,
    is_over: bool,
    wanted: bool,
    asked: bool,
}

impl Breaker {
    /// Makes the fault.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(paths: Paths, request: Request) -> std::io::Result<Self> {
        let (tell, happenings) = unbounded_channel();
        let (to, folders) = (tell.clone(), paths.clone());
        std::thread::Builder::new().name("fault".into()).spawn(move || {
            let mut tell = |told| drop(to.send(Happening::Told(Instant::now(), told)));
            let outcome = fault::run::fail(&folders, &request, false, &mut tell);
            let _ = to.send(Happening::Over(Box::new(outcome)));
        })?;
        Ok(Self { happenings, tell, paths, is_armed: false, is_over: false, wanted: false, asked: false })
    }

    /// What happens next; never ends of itself after [`Happening::Over`].
    pub async fn next(&mut self) -> Happening {
        // We hold a sender: the channel is never closed.
        let Some(happening) = self.happenings.recv().await else { return std::future::pending().await };
        match &happening {
            Happening::Told(_, Told::Event(event)) if matches!(event.step, Step::Armed { .. }) => {
                self.is_armed = true;
                self.end_if_wanted();
            }
            Happening::Over(_) => self.is_over = true,
            _ => {}
        }
        happening
    }

    /// Ends the fault now, as `agent recover` does; before it is armed, as soon as it is.
    pub fn end(&mut self) {
        self.wanted = true;
        self.end_if_wanted();
    }

    fn end_if_wanted(&mut self) {
        if !self.wanted || !self.is_armed || self.is_over || self.asked {
            return;
        }
        self.asked = true;
        let (tell, paths) = (self.tell.clone(), self.paths.clone());
        let end = move || {
            let mut say = |told| drop(tell.send(Happening::Told(Instant::now(), told)));
            if let Err(e) = fault::recover_now(&paths, &mut say) {
                let _ = tell.send(Happening::NotEnded(e));
            }
        };
        let spawned = std::thread::Builder::new().name("recover".into()).spawn(end);
        // Without a thread for it the fault ends at its deadline.
        self.asked = spawned.is_ok();
    }
}
