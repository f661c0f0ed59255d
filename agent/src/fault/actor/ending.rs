//! What whoever comes to the end of a fault does.

use super::shutdown::Shutdown;
use super::{Actor, millis};
use crate::fault::error::FaultError;
use crate::fault::event::Step;
use crate::fault::failpoint::failpoint;
use crate::fault::lease::record::Record;
use crate::fault::lease::{arm, mark};
use crate::fault::machine::Event;
use crate::fault::modes::packets;
use crate::fault::plan::unit;
use crate::fault::recovery::restore::restore;
use crate::sys::pidfd::Handle;
use crate::sys::proc::Identity;
use std::time::{Duration, Instant};

/// How long a keeper may take that was told to end a fault whose record is gone.
const KEEPER: Duration = Duration::from_secs(30);

impl Actor<'_, '_> {
    pub(super) fn ask_machine(&mut self) -> Event {
        if unit::is_going_down() { self.going_down() } else { Event::Done }
    }

    fn going_down(&mut self) -> Event {
        self.error = Some(FaultError::GoingDown);
        Event::GoingDown
    }

    pub(super) fn restore(&mut self) -> Event {
        let Some(record) = self.record.clone() else { return Event::Failed };
        let first = self.end_began.is_none();
        let start = *self.end_began.get_or_insert_with(Instant::now);
        if first {
            self.seen.held_ms = self.since_injected();
            if self.seen.lost.is_none() {
                self.seen.effective_ms = self.effect.as_ref().map(|(at, _)| millis(at.elapsed()));
            }
            let why = self.why();
            self.step(Step::Recovering { why });
        }
        failpoint("recover.begun");
        self.end_keeper(&record);
        let rebooted = self.is_of_another_boot(&record);
        let paths = self.paths;
        let shutdown = Shutdown::new(self.waiter.as_ref());
        let restored = match record.target().cloned().map(|t| if rebooted { t.of_another_boot() } else { t })
        {
            Some(target) => {
                // A reboot has taken the rules away.
                let packets = record.mode().touches_packets() && !rebooted;
                let removed = if packets { packets::remove().map_err(|e| e.to_string()) } else { Ok(()) };
                failpoint("recover.removed_rules");
                let is_keeper = |pid| arm::is_keeper(paths, &record, pid);
                removed.and_then(|()| restore(&target, &paths.state, &is_keeper, &|| shutdown.look()))
            }
            None => Ok(Vec::new()),
        };
        failpoint("recover.restored");
        let (told, seen) = (shutdown.told(), shutdown.seen());
        self.hurried |= told;
        if restored.is_err() && seen {
            return self.going_down();
        }
        match restored {
            Ok(differences) => {
                for difference in &differences {
                    self.warn(format!("nginx is not what it was: {difference}"));
                }
                self.seen.differences = differences;
                self.seen.first_ok_after_ms = Some(millis(start.elapsed()));
                self.error = self.error.take().filter(|e| !matches!(e, FaultError::NotRecovered(_)));
                Event::Done
            }
            Err(reason) => {
                self.error = Some(FaultError::NotRecovered(reason));
                Event::Failed
            }
        }
    }

    /// Where the keeper holds nginx or answers for it, its end is the end of that; and one that was told to begin, by a
    /// command that died since, must not begin once nginx was seen to answer.
    fn end_keeper(&self, record: &Record) {
        let us = Identity::ours().ok();
        let keepers = [record.keeper, arm::keeper(self.paths)].into_iter().flatten();
        for keeper in keepers.filter(|keeper| record.mode().needs_keeper() && Some(*keeper) != us) {
            if let Ok(Some(process)) = Handle::open(keeper) {
                let _ = process.signal(rustix::process::Signal::KILL);
                process.wait_end(super::perform::GOING);
            }
        }
    }

    pub(super) fn mark(&mut self) -> Event {
        let Some(record) = &self.record else { return Event::Failed };
        let marked = mark::write(
            self.paths,
            record,
            self.seen.first_ok_after_ms.unwrap_or_default(),
            &self.seen.differences,
        );
        if marked.is_ok() { Event::Done } else { Event::Failed }
    }

    pub(super) fn release(&mut self) {
        if let Some(record) = self.record.clone() {
            if self.end_began.is_some() {
                crate::fault::recovery::recover::health_again(&record);
                let first_ok_after_ms = self.seen.first_ok_after_ms.unwrap_or_default();
                self.step(Step::Recovered { first_ok_after_ms });
            }
            arm::release(self.paths, record.keeper, Identity::ours().ok());
        }
    }

    /// A keeper that is just ending has given its name back already, and holds its lock until it is gone.
    pub(super) fn ask_keeper(&mut self) -> Event {
        if let Some(Ok(Some(process))) = arm::keeper(self.paths).map(Handle::open) {
            let _ = process.signal(rustix::process::Signal::TERM);
        }
        if self.is_kept_for(KEEPER) { Event::Failed } else { Event::Done }
    }
}
