//! The closed loop: how much CPU time the workers may use so that the host as a whole is as busy as asked for. Pure.

use super::pacing::FRAMES_A_SECOND;

/// Steps a second. Others come and go for tens of milliseconds; a step costs some 50 µs of CPU time, with the waking of
/// two workers.
pub(super) const STEPS_A_SECOND: f64 = 2.0 * FRAMES_A_SECOND;
/// How fast the picture of the others follows, in seconds: the 10 ms in which `/proc/stat` counts are averaged out,
/// while what they do now is answered in the next step, by what is owed.
const FOLLOW: f64 = 0.1;
/// The most that is owed, in points of one second of the whole host. It bounds what piles up while the others alone
/// exceed the target, or where they leave too little for it.
const MOST_DEBT: f64 = 0.02;

/// What happened since the last step. CPU seconds over all CPUs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Step {
    /// How long it took.
    pub(super) secs: f64,
    /// CPUs of the host.
    pub(super) cpus: f64,
    /// Of whoever it was.
    pub(super) busy: f64,
    /// Of our workers.
    pub(super) own: f64,
    /// The share of the host that should have been busy, and should be in the next step.
    pub(super) target: f64,
}

/// Its memory: what the others use, and what is still owed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Controller {
    /// CPU seconds a second.
    others: f64,
    /// CPU seconds that should have been busy and weren't (or, below zero, the other way round).
    debt: f64,
}

impl Controller {
    /// What `workers` workers may use in the next step, in CPU seconds.
    pub(super) fn step(&mut self, last: &Step, workers: f64) -> f64 {
        let Step { secs, cpus, busy, own, target } = *last;
        if secs > 0.0 {
            let seen = ((busy - own) / secs).clamp(-cpus, cpus);
            self.others += (seen - self.others) * secs / (secs + FOLLOW);
            let most = MOST_DEBT * cpus;
            self.debt = (self.debt + target * cpus * secs - busy).clamp(-most, most);
        }
        let due = (target * cpus - self.others) / STEPS_A_SECOND + self.debt;
        // Enough for two steps, lest a late one leave the workers with nothing to do.
        due.clamp(0.0, 2.0 * workers.min(cpus) / STEPS_A_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host whose others use `others(t)` of its CPUs; `/proc/stat` counts idle time in steps of 10 ms.
    struct Host {
        cpus: f64,
        workers: f64,
        step: f64,
    }

    impl Host {
        /// The busy share of each second.
        fn seconds(&self, target: f64, secs: usize, others: impl Fn(f64) -> f64) -> Vec<f64> {
            let mut control = Controller::default();
            let mut grant =
                control.step(&Step { secs: 0.0, cpus: self.cpus, busy: 0.0, own: 0.0, target }, self.workers);
            let mut buckets = vec![0.0; secs];
            let (mut t, mut idle, mut idle_shown) = (0.0, 0.0_f64, 0.0);
            while t < secs as f64 - 1e-9 {
                let theirs = others(t).min(self.cpus) * self.step;
                let own = grant.min(self.workers * self.step).min(self.cpus * self.step - theirs);
                idle += self.cpus * self.step - theirs - own;
                let shown = (idle * 100.0).floor() / 100.0;
                let busy = self.cpus * self.step - (shown - idle_shown);
                idle_shown = shown;
                buckets[(t + 1e-9) as usize] += (theirs + own) / self.cpus;
                t += self.step;
                grant =
                    control.step(&Step { secs: self.step, cpus: self.cpus, busy, own, target }, self.workers);
            }
            buckets
        }
    }

    fn host(cpus: f64) -> Host {
        Host { cpus, workers: cpus, step: 1.0 / STEPS_A_SECOND }
    }

    #[track_caller]
    fn near(got: &[f64], want: f64, within: f64) {
        assert!(got.iter().all(|got| (got - want).abs() <= within), "{want}: {got:?}");
    }

    #[test]
    fn an_idle_host_reaches_any_target_within_the_first_second_and_holds_it() {
        for cpus in [1.0, 2.0, 4.0, 64.0] {
            for target in [0.05, 0.3, 0.7, 1.0] {
                near(&host(cpus).seconds(target, 10, |_| 0.0), target, 0.012);
            }
        }
    }

    #[test]
    fn a_steady_other_load_is_topped_up() {
        for cpus in [1.0, 2.0, 64.0] {
            let got = host(cpus).seconds(0.7, 60, |_| 0.5 * cpus);
            near(&got[1..], 0.7, 0.015);
            near(&[got[1..].iter().sum::<f64>() / 59.0], 0.7, 0.001);
        }
    }

    #[test]
    fn a_step_of_the_others_is_answered_within_a_second() {
        for cpus in [1.0, 2.0, 64.0] {
            let got = host(cpus)
                .seconds(0.6, 12, |t| if (3.0..7.0).contains(&t) { 0.4 * cpus } else { 0.1 * cpus });
            near(&got[1..3], 0.6, 0.015);
            near(&got[4..7], 0.6, 0.02);
            near(&got[8..], 0.6, 0.02);
        }
    }

    #[test]
    fn nothing_is_added_where_others_exceed_the_target() {
        let got = host(2.0).seconds(0.3, 10, |_| 1.6);
        near(&got[1..], 0.8, 0.001);
    }

    #[test]
    fn neither_too_much_nor_too_little_of_the_past_is_made_up_for() {
        let over = host(2.0).seconds(0.5, 40, |t| if t < 30.0 { 1.8 } else { 0.2 });
        near(&over[31..], 0.5, 0.03);
        let few = Host { workers: 1.0, ..host(4.0) };
        let under = few.seconds(0.5, 40, |t| if t < 30.0 { 0.0 } else { 1.5 });
        near(&under[..30], 0.25, 0.001);
        near(&under[31..], 0.5, 0.03);
    }

    #[test]
    fn late_steps_are_made_up_for() {
        for late in [1.1, 1.5, 2.0] {
            let host = Host { step: late / STEPS_A_SECOND, ..host(2.0) };
            near(&host.seconds(0.4, 20, |_| 0.3)[2..], 0.4, 0.02);
            near(&host.seconds(1.0, 20, |_| 0.3)[2..], 1.0, 0.02);
        }
    }

    #[test]
    fn nonsense_from_the_counters_stays_within_what_the_workers_can() {
        let mut control = Controller::default();
        for busy in [-50.0, 1e9, 0.0] {
            let grant = control.step(&Step { secs: 0.1, cpus: 2.0, busy, own: 7.0, target: 0.5 }, 2.0);
            assert!((0.0..=4.0 / STEPS_A_SECOND).contains(&grant));
        }
    }
}
