//! A group that grows under load and shrinks after it, as clients see it: which instances come to answer, and which go
//! again, and when. `Watch` is pure; the measuring and the load are handed in.

use std::time::Duration;

use serde::Serialize;

use super::sample::{Book, Sample};

/// An instance that hasn't answered for so long, with `usual` between its answers, is gone.
pub fn silence(usual: Duration) -> Duration {
    (20 * usual).max(Duration::from_secs(5))
}

/// One instance's time in the group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stay {
    /// What it calls itself.
    pub instance: String,
    /// Whether it was there before the load.
    pub before: bool,
    /// Its first answer, since the load began; 0 where it was there before.
    pub came_after_ms: f64,
    /// Its last answer, since the load began; `None` while it still answers.
    pub gone_after_ms: Option<f64>,
    /// Its answers.
    pub answers: u64,
}

/// What a drill of scaling came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    /// Every instance.
    pub instances: Vec<Stay>,
    /// Whether new ones came.
    pub out: bool,
    /// Whether all that came went again; unknown where none came.
    #[serde(rename = "in")]
    pub back: Option<bool>,
    /// When the first of them answered, since the load began.
    pub out_after_ms: Option<f64>,
    /// When the last of them answered last, since the load ended.
    pub in_after_ms: Option<f64>,
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// Follows the instances.
#[derive(Debug)]
pub struct Watch {
    /// When the load began.
    pub from: Duration,
    /// When it ended.
    pub until: Duration,
    /// Longer than an instance in use goes without an answer.
    pub silence: Duration,
}

impl Watch {
    /// What is known at `now`.
    pub fn at(&self, book: &Book, now: Duration) -> Scaled {
        let since = |time: Duration, zero: Duration| time.saturating_sub(zero).as_micros() as f64 / 1e3;
        let mut stays: Vec<(Stay, Duration)> = Vec::new();
        for (place, name) in book.instances().iter().enumerate() {
            let mine = |one: &&Sample| one.instance.map(usize::from) == Some(place);
            let starts = || book.samples.iter().filter(mine).map(Sample::start);
            let (Some(first), Some(last)) = (starts().min(), starts().max()) else { continue };
            let gone = last + self.silence < now;
            let stay = Stay {
                instance: name.clone(),
                before: first < self.from,
                came_after_ms: since(first, self.from),
                gone_after_ms: gone.then(|| since(last, self.from)),
                answers: starts().count() as u64,
            };
            stays.push((stay, last));
        }
        let newcomers = || stays.iter().filter(|(stay, _)| !stay.before);
        let out_after = newcomers().map(|(stay, _)| stay.came_after_ms).reduce(f64::min);
        let back = out_after.map(|_| newcomers().all(|(stay, _)| stay.gone_after_ms.is_some()));
        let last = newcomers().map(|(_, last)| *last).max();
        Scaled {
            out: out_after.is_some(),
            back,
            out_after_ms: out_after,
            in_after_ms: last.filter(|_| back == Some(true)).map(|last| since(last, self.until)),
            requests: book.samples.len() as u64,
            errors: book.samples.iter().filter(|one| !one.is_ok()).count() as u64,
            instances: stays.into_iter().map(|(stay, _)| stay).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Outcome;
    use super::super::window::tests::sample;
    use super::*;

    #[test]
    fn an_instance_comes_with_its_first_answer_and_goes_with_its_last() {
        let mut book = Book::default();
        let (old, new) = (book.instance("i-old"), book.instance("i-new"));
        let ok = Outcome::Status(200);
        let seconds = |secs: std::ops::Range<u64>, who| secs.map(move |s| sample(s * 1000, ok, who));
        book.samples = seconds(0..100, old).chain(seconds(30..60, new)).collect();
        let secs = Duration::from_secs;
        let watch = Watch { from: secs(10), until: secs(40), silence: secs(20) };
        let during = watch.at(&book, secs(70));
        assert_eq!((during.out, during.back, during.out_after_ms), (true, Some(false), Some(20_000.0)));
        let after = watch.at(&book, secs(100));
        assert_eq!((after.back, after.in_after_ms), (Some(true), Some(19_000.0)));
        assert_eq!(after.instances[0].gone_after_ms, None);
        book.samples.truncate(100);
        assert_eq!((watch.at(&book, secs(100)).out, watch.at(&book, secs(100)).back), (false, None));
    }
}
