//! The open loop: how much CPU time a worker may use in the frame it is in. Pure; the clocks are handed in.

use super::curve::Curve;

/// Frames a second. A worker burns at the start of each frame and sleeps for its rest, so a sampler of a second sees
/// no waves. 53 divides the second, so every second holds the same share whatever its phase, and has no divisor in
/// common with the ticks of any kernel (100, 250, 300, 1000 a second), so `top`, whose numbers are sampled at the
/// ticks, sees neither always the burning nor always the sleeping part.
pub(super) const FRAMES_A_SECOND: f64 = 53.0;

/// What a worker may catch up with, in seconds of CPU time, when others kept it from its CPU. More would make up for
/// lost time with waves: 20 ms are 2 points of a second.
const MOST_DEBT: f64 = 0.020;

/// Keeps one worker on its curve. Times are seconds since the start.
#[derive(Debug, Clone)]
pub(super) struct Pacer {
    /// Where in the frame this worker's frames begin, 0 to 1: workers take turns.
    phase: f64,
    /// CPU time that others had and that nobody will make up for.
    forgiven: f64,
}

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    /// Burn until the thread's CPU clock shows this,
    pub(super) cpu: f64,
    /// or until this time, and sleep until it comes.
    pub(super) end: f64,
}

impl Pacer {
    /// A pacer for worker `index` of `workers`.
    pub(super) fn new(index: u32, workers: u32) -> Self {
        Self { phase: f64::from(index) / f64::from(workers.max(1)), forgiven: 0.0 }
    }

    /// The frame in which `now` lies, for a worker that has used `used` seconds of CPU time so far.
    pub(super) fn frame(&mut self, curve: &Curve, now: f64, used: f64) -> Frame {
        let debt = curve.area(now) - self.forgiven - used;
        self.forgiven += (debt - MOST_DEBT).max(0.0);
        // A sleep may end a rounding error before the frame does; the frame that follows is meant.
        let number = (now * FRAMES_A_SECOND - self.phase + 1e-6).floor() + 1.0;
        let end = (number + self.phase) / FRAMES_A_SECOND;
        Frame { cpu: curve.area(end) - self.forgiven, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a worker on a CPU of which `free(now)` is left to it; returns its CPU time in each second.
    fn seconds(curve: &Curve, phase: u32, free: impl Fn(f64) -> f64, for_secs: usize) -> Vec<f64> {
        let mut pacer = Pacer::new(phase, 7);
        let (mut now, mut used) = (0.0, 0.0);
        let mut buckets = vec![0.0; for_secs];
        let step = 0.000_05;
        while now < for_secs as f64 {
            let frame = pacer.frame(curve, now, used);
            while now < frame.end {
                let burn = if used < frame.cpu { step * free(now) } else { 0.0 };
                used += burn;
                if let Some(bucket) = buckets.get_mut(now as usize) {
                    *bucket += burn;
                }
                now += step;
            }
        }
        buckets
    }

    #[test]
    fn every_second_holds_the_share() {
        for phase in [0, 3] {
            for share in [0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0] {
                for got in seconds(&Curve::constant(share), phase, |_| 1.0, 5).iter().skip(1) {
                    assert!((got - share).abs() < 0.0025, "{share}: {got}");
                }
            }
        }
    }

    #[test]
    fn a_short_disturbance_is_made_up_for_and_a_long_one_is_not() {
        let curve = Curve::constant(0.5);
        let short = seconds(&curve, 0, |t| if (1.0..1.03).contains(&t) { 0.0 } else { 1.0 }, 3);
        assert!(short.iter().all(|got| (got - 0.5).abs() < 0.01), "{short:?}");
        let long = seconds(&curve, 0, |t| if (1.0..2.0).contains(&t) { 0.0 } else { 1.0 }, 4);
        assert!((long[2] - 0.5).abs() < 0.025 && (long[3] - 0.5).abs() < 0.0025, "{long:?}");
    }

    #[test]
    fn half_a_cpu_is_enough_for_half_the_load() {
        let got = seconds(&Curve::constant(0.4), 0, |_| 0.5, 3);
        assert!(got.iter().skip(1).all(|got| (got - 0.4).abs() < 0.0025), "{got:?}");
    }

    #[test]
    fn a_ramp_rises_second_by_second() {
        let curve = Curve::ramp(1.0, std::time::Duration::from_secs(4));
        let got = seconds(&curve, 0, |_| 1.0, 5);
        for (got, due) in got.iter().zip([0.125, 0.375, 0.625, 0.875, 1.0]) {
            assert!((got - due).abs() < 0.005, "{got} {due}");
        }
    }

    #[test]
    fn a_leap_in_time_asks_for_no_more_than_the_allowance() {
        let mut pacer = Pacer::new(0, 1);
        let frame = pacer.frame(&Curve::constant(1.0), 3600.0, 1.0);
        assert!(frame.cpu <= 1.0 + MOST_DEBT + 1.0 / FRAMES_A_SECOND + 1e-6);
        assert!(frame.end > 3600.0 && frame.end <= 3600.0 + 1.001 / FRAMES_A_SECOND);
    }
}
