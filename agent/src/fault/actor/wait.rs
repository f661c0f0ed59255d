//! The actions that wait: for the effect, the deadline, a signal, a keeper.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::{Actor, millis};
use crate::fault::error::FaultError;
use crate::fault::event::{Step, Told};
use crate::fault::failpoint::failpoint;
use crate::fault::history;
use crate::fault::lease::arm::{self, BEGIN, BEGUN, READY};
use crate::fault::lease::lock;
use crate::fault::lease::record::{Fault, Phase, Record};
use crate::fault::machine::{Event, Role, Woken};
use crate::fault::modes::answerer::answer_with;
use crate::fault::modes::effect::{self, Observed};
use crate::fault::modes::hold::hold;
use crate::fault::modes::inject;
use crate::fault::recovery::outputs;
use crate::nginx::answer::Answer;
use crate::sys::clock::since_boot;
use crate::sys::file::{self, Lock};
use crate::sys::proc::Identity;
use crate::sys::wait;

/// How long the command that started the fault is given to end it before the keeper does.
const COURTESY: Duration = Duration::from_millis(300);
/// How often the effect and the record are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a keeper is waited for that may have been killed.
const LAST_BREATH: Duration = Duration::from_millis(50);
/// How often the time that is left is told.
const TICK: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const LONGEST_REST: Duration = Duration::from_secs(30);

impl Actor<'_, '_> {
    pub(super) fn watch(&mut self) -> Event {
        let Some(record) = self.record.clone() else { return Event::Failed };
        let waiter = self.waiter.as_ref();
        let signal = std::cell::Cell::new(self.signal);
        let interrupted = || {
            signal.set(signal.get().or_else(|| waiter?.pending()));
            signal.get().is_some()
        };
        let observed = effect::first(&record, &interrupted);
        self.signal = signal.get();
        let Some(observed) = observed else { return Event::Signal };
        let event = if observed.as_meant { "effective" } else { "no_effect" };
        let _ = history::append(&self.paths.log, &record, event, &observed.what);
        failpoint("effective");
        self.seen.effective = observed.as_meant;
        if !observed.as_meant {
            let at = record.endpoint().filter(|_| !record.mode().touches_packets());
            let at = at.map_or(String::new(), |(endpoint, _)| format!("{} ", endpoint.addr));
            self.warn(format!("no effect: {at}{}", observed.what));
            return Event::Failed;
        }
        self.step(Step::Effective { observed: observed.what.clone() });
        self.effect = Some((std::time::Instant::now(), observed));
        Event::Done
    }

    pub(super) fn wait(&mut self) -> Event {
        let Some(record) = self.record.clone() else { return Event::Failed };
        // Another boot's deadline means nothing in this one.
        let end = if self.is_of_another_boot(&record) { Duration::ZERO } else { record.deadline() };
        let woken = match self.machine.role() {
            Role::Command { .. } => self.command_waits(&record, end),
            Role::Keeper => self.keeper_waits(&record, end),
            _ => self.sleep_until(end),
        };
        match woken {
            Ok(woken) => Event::Woken(woken),
            Err(e) => self.outcome::<()>(Err(FaultError::Wait(e))),
        }
    }

    fn sleep_until(&mut self, end: Duration) -> io::Result<Woken> {
        let Some(waiter) = &self.waiter else { return Ok(Woken::Deadline) };
        Ok(match waiter.until(end, None)? {
            wait::Woken::Signal(signal) => {
                self.signal = Some(signal);
                Woken::Signal
            }
            wait::Woken::Time | wait::Woken::Ready => Woken::Deadline,
        })
    }

    fn command_waits(&mut self, record: &Record, end: Duration) -> io::Result<Woken> {
        loop {
            let now = since_boot();
            if now >= end {
                return Ok(Woken::Deadline);
            }
            if self.interrupted() {
                return Ok(Woken::Signal);
            }
            if now >= self.next_look {
                self.next_look = now + LOOK;
                if self.is_gone(record) {
                    return Ok(Woken::RecordGone);
                }
                if self.keeper.is_none() {
                    return Ok(Woken::KeeperGone);
                }
                match self.still_effective(record) {
                    Err(what) => {
                        // What a keeper holds is free a moment before the keeper is seen to have ended.
                        if let Some(woken) = self.sleep_until_or_keeper(since_boot() + LAST_BREATH)? {
                            return Ok(woken);
                        }
                        if !self.is_being_ended(record) {
                            return Ok(self.lost(what));
                        }
                    }
                    Ok(observed) if now >= self.next_tick => {
                        self.next_tick = now + TICK;
                        let left = end.saturating_sub(now).as_secs_f64().ceil() as u64;
                        (self.tell)(Told::Holding { left, observed });
                    }
                    Ok(_) => {}
                }
                inject::insist(record, self.injected);
            }
            if self.waiter.is_none() {
                return Ok(Woken::Deadline);
            }
            if let Some(woken) = self.sleep_until_or_keeper(self.next_look.min(end))? {
                return Ok(woken);
            }
        }
    }

    /// Sleeps; what ends the sleep before its time: a signal, or the end of the keeper.
    fn sleep_until_or_keeper(&mut self, until: Duration) -> io::Result<Option<Woken>> {
        let Some(waiter) = &self.waiter else { return Ok(None) };
        let keeper = self.keeper.as_ref().map(|keeper| keeper.ended().as_fd());
        Ok(match waiter.until(until, keeper)? {
            wait::Woken::Time => None,
            wait::Woken::Signal(signal) => {
                self.signal = Some(signal);
                Some(Woken::Signal)
            }
            wait::Woken::Ready => {
                if self.keeper.as_mut().is_some_and(arm::Keeper::is_gone) {
                    self.keeper = None;
                }
                Some(Woken::KeeperGone)
            }
        })
    }

    /// The keeper watches the effect where no command does.
    fn keeper_waits(&mut self, record: &Record, end: Duration) -> io::Result<Woken> {
        loop {
            let alone = self.seen.effective || record.holder.is_none_or(|holder| !holder.is_alive());
            let until = if alone { end.min(since_boot() + LOOK) } else { end.min(since_boot() + 2 * TICK) };
            let woken = self.sleep_until(until)?;
            if woken == Woken::Signal || since_boot() >= end {
                return Ok(woken);
            }
            if alone {
                self.seen.effective |= self.was_in_force();
                // Only what was seen can be lost: a fault that never was in force isn't.
                match self.still_effective(record) {
                    Ok(_) => self.seen.effective = true,
                    Err(what) if self.seen.effective && !self.is_being_ended(record) => {
                        return Ok(self.lost(what));
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// Whether the record is. Unreadable is not gone.
    fn is_gone(&self, record: &Record) -> bool {
        Record::read(&self.paths.state)
            .is_ok_and(|read| read.as_ref().is_none_or(|read| read.id != record.id))
    }

    /// Whether somebody ends the fault, or has ended it: an effect that is gone for that is not lost. In this order, as
    /// whoever ends it brings nginx back first, removes the record then, and gives the lock back last.
    fn is_being_ended(&self, record: &Record) -> bool {
        lock::holder(self.paths).is_some_and(|holder| Identity::ours().is_ok_and(|us| us != holder))
            || self.is_gone(record)
    }

    /// Whether nginx failed, as the command saw it before it went: "injected" says so of every mode but those that a
    /// daemon, which may not be there, has to show.
    fn was_in_force(&self) -> bool {
        let ours = |read: &Record| self.record.as_ref().is_some_and(|record| record.id == read.id);
        let read = Record::read(&self.paths.state).ok().flatten().filter(ours);
        read.is_some_and(|record| record.phase == Phase::Injected && record.mode().touches_nginx())
    }

    fn still_effective(&mut self, record: &Record) -> Result<Answer, String> {
        let unseen = Observed { as_meant: true, what: String::new(), answer: Answer::Silent };
        let at_first = self.effect.as_ref().map_or(&unseen, |(_, observed)| observed);
        effect::still(record, at_first)
    }

    fn lost(&mut self, what: String) -> Woken {
        let lasted = self.effect.as_ref().map(|(at, _)| millis(at.elapsed()));
        self.seen.effective_ms = lasted;
        self.seen.lost = Some(what);
        Woken::Lost
    }

    pub(super) fn take_keepers_lock(&mut self) -> Event {
        let path = arm::keepers_lock(self.paths);
        let limit = Duration::from_secs(2);
        let taken = file::ensure_folder(&self.paths.run).and_then(|()| Lock::take_within(&path, limit));
        let noted = taken.and_then(|lock| {
            let Some(lock) = lock else { return Ok(None) };
            let us = Identity::ours()?;
            lock.note(&serde_json::to_string(&us).unwrap_or_default()).map(|()| Some(lock))
        });
        match noted {
            Ok(Some(lock)) => {
                self.keepers_lock = Some(lock);
                Event::Done
            }
            Ok(None) => {
                self.error = Some(FaultError::Busy(limit));
                Event::Busy
            }
            Err(why) => self.outcome::<()>(Err(FaultError::File { path, why })),
        }
    }

    pub(super) fn say_ready(&mut self) -> Event {
        let record = self.record.as_ref().filter(|record| record.mode().ends_nginx());
        self.outputs = record.and_then(|record| record.target()).map(outputs::hold).unwrap_or_default();
        let said = say(READY).and_then(|()| {
            let part = self.record.as_ref().is_some_and(|record| record.mode().needs_keeper());
            if part { Ok(()) } else { say_no_more() }
        });
        self.outcome(said.map_err(FaultError::Wait))
    }

    /// Waits until it is told to begin with its part, and does. Nobody tells a keeper that was started later: its fault
    /// is over, as the kernel let go of nginx, or refuses connections, since the first one died.
    pub(super) fn part(&mut self) -> Event {
        let begun = self.begin_when_told();
        let event = match &begun {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Event::Signal,
            Err(_) => Event::Failed,
            Ok(()) => Event::Done,
        };
        let _ = say_no_more();
        event
    }

    fn begin_when_told(&mut self) -> io::Result<()> {
        let stdin = io::stdin();
        let (Some(record), Some(waiter)) = (&self.record, &self.waiter) else { return Ok(()) };
        let Some(target) = record.target() else { return Ok(()) };
        match waiter.until(record.deadline(), Some(stdin.as_fd()))? {
            wait::Woken::Ready => {}
            wait::Woken::Time => return Ok(()),
            // Nothing is injected yet: the command sees us go, and ends what isn't a fault yet.
            wait::Woken::Signal(_) => return Err(io::ErrorKind::Interrupted.into()),
        }
        let mut told = [0; 16];
        let n = rustix::io::read(&stdin, &mut told)?;
        if told.get(..n) != Some(BEGIN) {
            return Ok(());
        }
        let begun = match record.fault {
            Fault::Error { status, .. } => answer_with(status).map(|port| (None, port)),
            _ => hold(target, record.deadline()).map(|held| (Some(held), 0)),
        };
        match begun {
            Ok((held, port)) => {
                self.held = held;
                say(format!("{BEGUN}{port}\n").as_bytes())
            }
            Err(e) => say(format!("{e}\n").as_bytes()),
        }
    }

    /// Leaves the end to the command, while that lives and isn't at the end of its time as well.
    pub(super) fn courtesy(&mut self) -> Event {
        let lives = self.record.as_ref().and_then(|record| record.holder).is_some_and(|h| h.is_alive());
        if lives && let Some(waiter) = &self.waiter {
            let _ = waiter.until(since_boot() + COURTESY, None);
        }
        Event::Done
    }

    pub(super) fn rest(&mut self) -> Event {
        if std::mem::take(&mut self.hurried) {
            return Event::Done;
        }
        let until = since_boot() + self.rest;
        self.rest = (2 * self.rest).min(LONGEST_REST);
        if let Some(waiter) = &self.waiter {
            let _ = waiter.until(until, None);
        }
        Event::Done
    }
}

/// Says something to the command that started us; nobody need be there to hear it.
fn say(text: &[u8]) -> io::Result<()> {
    match rustix::io::write(io::stdout().as_fd(), text) {
        Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Lets go of the pipe to the command that started us.
fn say_no_more() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
