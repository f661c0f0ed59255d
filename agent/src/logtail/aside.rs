//! What was moved or copied aside unread is found again, by its name, its inode or its content.

use std::fs::File;
use std::time::Duration;

use super::follower::{Follower, Place};
use super::siblings::{self, Sibling};
use super::{Event, Find, Gap, MAX_GENERATIONS, Sink, Tail};

/// An older generation that was last written to so lately may hold what the last few minutes logged.
const RECENT: Duration = Duration::from_secs(300);

impl Tail {
    /// The generation before the log's present one, where what `find` looks for may begin in it: a log that was
    /// rotated a minute ago has the minutes before in there.
    pub(super) fn before(listed: &[Sibling], find: &Find) -> Option<Follower> {
        let last = listed.iter().rfind(|s| s.is_generation)?;
        let file = last.open().filter(|_| last.modified.elapsed().is_ok_and(|age| age < RECENT))?;
        let offset = find(&file).ok()?;
        Follower::at(file, offset).ok()
    }

    /// Generations beside the log that had its name between two looks: new, and no copies of what we know.
    pub(super) fn unread(&mut self, listed: &[Sibling], besides: &[Place]) -> Vec<Follower> {
        let mut seen: Vec<Place> = self.generations.iter().map(Follower::reached).collect();
        seen.extend_from_slice(besides);
        let mut found = Vec::new();
        for sibling in listed.iter().filter(|s| s.is_generation) {
            if seen.iter().any(|place| place.id == sibling.id)
                || self.not_before.is_some_and(|earliest| sibling.modified < earliest)
            {
                continue;
            }
            let Some(file) = sibling.open().filter(|file| self.known.of(sibling.id, file).is_none()) else {
                continue;
            };
            let rest = self.truncated.iter().find(|(place, _)| place.fits(&file).unwrap_or(false));
            if let Some((place, unfinished)) = rest {
                if let Ok(mut copy) = Follower::at(file, place.offset.saturating_sub(*unfinished)) {
                    copy.finished = true;
                    found.push(copy);
                }
                continue;
            }
            let is_copy = |place: &Place| place.begins(&file).unwrap_or(false);
            if seen.iter().chain(self.known.places()).any(is_copy) {
                continue;
            }
            if let (Ok(head), Ok(follower)) = (siblings::head(&file), Follower::at(file, 0)) {
                seen.push(Place { head, ..follower.reached() });
                found.push(follower);
            }
        }
        found
    }

    /// The same where the log may have been copied and truncated: an empty copy is one that is only being made.
    pub(super) fn unread_copies(&mut self, listed: &[Sibling], besides: &[Place]) -> Vec<Follower> {
        let mut copies = self.unread(listed, besides);
        copies.retain(|copy| copy.file.metadata().is_ok_and(|meta| meta.len() > 0));
        copies
    }

    /// Generation `at` was truncated: what was copied away unread is inserted before it, and it starts again. Returns
    /// the place from which to go on reading.
    pub(super) fn truncated(&mut self, at: usize, sink: &mut Sink<'_>) -> usize {
        let Some(generation) = self.generations.get(at) else { return at };
        let (place, unfinished) = (generation.reached(), generation.lines.unfinished() as u64);
        let listed = siblings::list(&self.path);
        let mut rest = Vec::new();
        let fits = |s: &&Sibling| {
            s.id != place.id && s.size >= place.offset && !self.generations.iter().any(|g| g.id == s.id)
        };
        let copy =
            listed.iter().filter(fits).find_map(|s| s.open().filter(|f| place.fits(f).unwrap_or(false)));
        let copied = copy.and_then(|file| Follower::at(file, place.offset).ok());
        sink(Event::Gap(if copied.is_some() { Gap::Copied } else { Gap::Truncated }));
        if copied.is_none() && place.offset > 0 {
            self.truncated.truncate(MAX_GENERATIONS);
            self.truncated.push_front((place, unfinished));
        }
        if let (Some(mut copied), Some(generation)) = (copied, self.generations.get_mut(at)) {
            std::mem::swap(&mut copied.lines, &mut generation.lines);
            copied.finished = true;
            rest.push(copied);
        }
        let Some(generation) = self.generations.get_mut(at) else { return at };
        if generation.start_again().is_err() {
            self.generations.remove(at);
            return at;
        }
        let is_current = at + 1 == self.generations.len();
        let again = self.generations.get(at).filter(|g| g.offset == 0).and_then(|g| g.file.try_clone().ok());
        let begins_like =
            |g: &Follower, file: &File| g.id != place.id && g.reached().begins(file).unwrap_or(false);
        if !is_current
            && again.as_ref().is_some_and(|file| self.generations.iter().any(|g| begins_like(g, file)))
        {
            // An older generation was overwritten by a copy of one that we follow.
            self.generations.remove(at);
        } else {
            let mut besides = vec![place];
            besides.extend(rest.iter().map(Follower::reached));
            besides.extend(again.and_then(|f| siblings::head(&f).ok()).map(|head| Place { head, ..place }));
            rest.extend(self.unread_copies(&listed, &besides));
        }
        self.generations.splice(at..at, rest);
        at
    }
}
