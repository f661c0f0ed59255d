//! Probes in the order of their times. nginx writes a line when an answer has ended; its workers take turns, and each
//! may hold lines back in a buffer of its own (`access_log … buffer=… flush=…`): then lines come late, and those of one
//! worker before older ones of another. That is put in order. A log whose time runs backwards by more, or again and
//! again, isn't as nginx wrote it. Pure; bounded.

use std::collections::VecDeque;

use super::arrival::ProbeArrival;

/// Far more than come while a buffer fills.
const MAX_WAITING: usize = 2048;
/// Workers' clocks tick apart by less than this.
const TICK_MS: i64 = 1000;
/// Steps backwards from which on they tell that the order is another one.
const FALLS: u64 = 2;

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    /// A probe, in its turn.
    Probe(ProbeArrival),
    /// The time was set back, or another part of the log begins: what comes now has nothing to do with what came.
    SetBack,
}

/// Puts probes in order.
#[derive(Debug, Clone)]
pub struct Order {
    patience_ms: i64,
    waiting: VecDeque<ProbeArrival>,
    newest_ms: i64,
    before: Option<ProbeArrival>,
    rises: u64,
    falls: u64,
    /// The newest time so far when time last ran backwards, by a little and by more.
    fell_ms: Option<i64>,
    set_back_ms: Option<i64>,
}

impl Order {
    /// Waits for as long as lines may be held back, milliseconds.
    pub fn new(patience_ms: i64) -> Self {
        Self {
            patience_ms,
            waiting: VecDeque::new(),
            newest_ms: i64::MIN / 2,
            before: None,
            rises: 0,
            falls: 0,
            fell_ms: None,
            set_back_ms: None,
        }
    }

    /// Waits for so long from now on, milliseconds.
    pub fn wait_for(&mut self, patience_ms: i64) {
        self.patience_ms = patience_ms;
    }

    /// Takes a probe; hands on those before which none can come any more.
    pub fn push(&mut self, arrival: ProbeArrival, out: &mut dyn FnMut(Ordered)) {
        let at_ms = arrival.ended.from_ms;
        if let Some(before) = self.before.replace(arrival) {
            self.rises += u64::from(at_ms > before.ended.to_ms);
            if arrival.ended.to_ms + TICK_MS < before.ended.from_ms {
                self.falls += 1;
                self.fell_ms = self.fell_ms.max(Some(self.newest_ms));
            }
        }
        if at_ms < self.newest_ms - self.patience_ms {
            self.set_back_ms = self.set_back_ms.max(Some(at_ms));
            self.waiting.drain(..).for_each(|probe| out(Ordered::Probe(probe)));
            out(Ordered::SetBack);
            self.newest_ms = at_ms;
        }
        let later = self.waiting.iter().rev().take_while(|probe| probe.ended.from_ms > at_ms).count();
        self.waiting.insert(self.waiting.len() - later, arrival);
        self.newest_ms = self.newest_ms.max(at_ms);
        self.ripe(self.newest_ms - self.patience_ms, out);
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front().into_iter().for_each(|probe| out(Ordered::Probe(probe)));
        }
    }

    /// Hands on what is older than `before_ms`, up to which all has come.
    pub fn ripe(&mut self, before_ms: i64, out: &mut dyn FnMut(Ordered)) {
        while self.waiting.front().is_some_and(|probe| probe.ended.from_ms < before_ms) {
            self.waiting.pop_front().into_iter().for_each(|probe| out(Ordered::Probe(probe)));
        }
    }

    /// Whether time ran backwards as nginx never writes it, since then or at all.
    pub fn is_broken(&self, from_ms: Option<i64>) -> bool {
        let since = |at: Option<i64>| at.is_some_and(|at| from_ms.is_none_or(|from_ms| at >= from_ms));
        since(self.set_back_ms) || since(self.fell_ms) && self.falls >= FALLS && self.falls > 3 * self.rises
    }
}

#[cfg(test)]
mod tests {
    use super::super::arrival::Window;
    use super::*;

    fn probe(second: i64) -> ProbeArrival {
        let node = std::net::Ipv4Addr::LOCALHOST.into();
        let ended = Window::stamped(second * 1000, 1000);
        ProbeArrival { node, stream: 0, ended, took_ms: None, status: None }
    }

    fn ordered(patience_ms: i64, seconds: impl IntoIterator<Item = i64>) -> (Vec<i64>, bool) {
        let mut order = Order::new(patience_ms);
        let mut seen = Vec::new();
        let mut keep = |ordered: Ordered| match ordered {
            Ordered::Probe(probe) => seen.push(probe.ended.from_ms / 1000),
            Ordered::SetBack => seen.push(-1),
        };
        for second in seconds {
            order.push(probe(second), &mut keep);
        }
        order.ripe(i64::MAX, &mut keep);
        (seen, order.is_broken(None))
    }

    #[test]
    fn lines_of_two_workers_come_in_their_order() {
        // Every half minute one worker writes what it had, then the other.
        let flushes = (0..4).flat_map(|half| [0, 5].map(|worker| (half * 30 + worker, half * 30 + 30)));
        let (seen, broken) = ordered(60_000, flushes.flat_map(|(from, to)| (from..to).step_by(10)));
        assert_eq!((seen, broken), ((0..120).step_by(5).collect(), false));
    }

    #[test]
    fn a_log_from_its_end_to_its_beginning_is_none_that_nginx_wrote() {
        assert!(ordered(60_000, (0..4).rev().map(|n| n * 5)).1);
        assert!(ordered(60_000, (0..60).rev().map(|n| n * 30)).1);
        assert_eq!(ordered(60_000, [100, 105, 0, 5]), (vec![100, 105, -1, 0, 5], true));
        assert!(!ordered(60_000, [0, 1, 0, 5, 6, 5, 10, 11, 10]).1, "clocks tick apart");
    }

    #[test]
    fn what_ran_backwards_before_is_past() {
        let mut order = Order::new(60_000);
        [1000, 1005, 0, 5, 10].into_iter().for_each(|second| order.push(probe(second), &mut |_| {}));
        assert!(order.is_broken(None) && order.is_broken(Some(0)) && !order.is_broken(Some(1000)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::new(i64::MAX / 4);
        (0..10_000).for_each(|n| order.push(probe(n), &mut |_| {}));
        assert_eq!(order.waiting.len(), MAX_WAITING);
    }
}
