//! What is said once during a run when something holds the load back: spent CPU credits, a cgroup quota.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::aside::Aside;
use super::host::Share;
use crate::sys::cgroup::{CpuCgroup, Throttled};
use crate::sys::thread;

/// Steal of a few percent,
const STEAL_PCT: f64 = 3.0;
/// for this many seconds.
const WINDOW: usize = 30;
/// Seconds of throttling that are worth a line,
const THROTTLED_SECS: f64 = 0.5;
/// which is looked for this often, in seconds.
const THROTTLED_EVERY: u32 = 5;
/// Who asks for the instance's type needs this much stack: a runtime and an HTTP client.
const ASKING_STACK_BYTES: usize = 1 << 20;
/// Busy and the baseline are the same within this, in points.
const NEAR_BASELINE: f64 = 3.0;

/// Tells the instance's type, such as `t3.micro`; may take seconds. `None` off EC2.
pub type InstanceType = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The share of each vCPU that a burstable instance earns credits for, in percent. From
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html>, table "Baseline
/// utilization per vCPU".
pub fn baseline_pct(instance_type: &str) -> Option<f64> {
    let (family, size) = instance_type.split_once('.')?;
    let newer = match family {
        "t2" => false,
        "t3" | "t3a" | "t4g" => true,
        _ => return None,
    };
    Some(match size {
        "nano" => 5.0,
        "micro" => 10.0,
        "small" | "medium" => 20.0,
        "large" => 30.0,
        "xlarge" if newer => 40.0,
        "2xlarge" if newer => 40.0,
        "xlarge" => 22.5,
        "2xlarge" => 17.0,
        _ => return None,
    })
}

/// Watches one run.
pub(super) struct Hints {
    recent: VecDeque<Share>,
    steal: Steal,
    throttling: Throttling,
    instance_type: InstanceType,
    aside: Arc<Aside>,
}

#[derive(Debug)]
enum Steal {
    Watching,
    Asking { steal_pct: f64, busy_pct: f64, answer: Receiver<Option<String>> },
    Said,
}

#[derive(Debug)]
struct Throttling {
    cgroup: Option<CpuCgroup>,
    before: Throttled,
    seconds: u32,
    said: bool,
}

impl Hints {
    pub(super) fn new(cgroup: Option<CpuCgroup>, instance_type: InstanceType, aside: Arc<Aside>) -> Self {
        let before = cgroup.as_ref().map(CpuCgroup::throttled).unwrap_or_default();
        let throttling = Throttling { cgroup, before, seconds: 0, said: false };
        Self { recent: VecDeque::new(), steal: Steal::Watching, throttling, instance_type, aside }
    }

    /// Seconds for which a quota has stopped those whom it binds since the start.
    pub(super) fn throttled_secs(&self) -> f64 {
        let now = self.throttling.cgroup.as_ref().map(CpuCgroup::throttled).unwrap_or_default();
        now.secs_since(&self.throttling.before)
    }

    /// What is to be said after a second of which `host` became.
    pub(super) fn second(&mut self, host: Share) -> Option<String> {
        self.about_steal(host).or_else(|| self.about_throttling())
    }

    fn about_steal(&mut self, host: Share) -> Option<String> {
        match &self.steal {
            Steal::Said => None,
            Steal::Watching => {
                let seen = window(&mut self.recent, host)?;
                let (steal_pct, busy_pct) = (seen.steal_pct(), seen.busy_pct());
                let ((sender, answer), ask) = (channel(), Arc::clone(&self.instance_type));
                let aside = Arc::clone(&self.aside);
                // On a thread of its own: the metadata service may take its time, the deadline won't wait.
                let work = move || {
                    let _ = sender.send(ask());
                    aside.ends();
                };
                let asking = thread::spawn(ASKING_STACK_BYTES, Box::new(work));
                self.steal =
                    if asking.is_ok() { Steal::Asking { steal_pct, busy_pct, answer } } else { Steal::Said };
                None
            }
            Steal::Asking { steal_pct, busy_pct, answer } => {
                let instance_type = match answer.try_recv() {
                    Ok(answer) => answer,
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => None,
                };
                let hint = steal_hint(*steal_pct, *busy_pct, instance_type.as_deref());
                self.steal = Steal::Said;
                Some(hint)
            }
        }
    }

    fn about_throttling(&mut self) -> Option<String> {
        self.throttling.seconds += 1;
        if self.throttling.said || !self.throttling.seconds.is_multiple_of(THROTTLED_EVERY) {
            return None;
        }
        if self.throttled_secs() <= THROTTLED_SECS {
            return None;
        }
        self.throttling.said = true;
        let quota = self.throttling.cgroup.as_ref().and_then(CpuCgroup::quota);
        let which =
            quota.map_or_else(String::new, |q| format!(" of {:.2} CPUs ({})", q.cpus, q.at.display()));
        Some(format!("A cgroup quota{which} stops the workers: CloudWatch sees only what it lets through."))
    }
}

/// The last half minute, once there is one and its steal is above a few percent.
fn window(recent: &mut VecDeque<Share>, host: Share) -> Option<Share> {
    recent.push_back(host);
    if recent.len() > WINDOW {
        recent.pop_front();
    }
    let mut sum = Share::default();
    recent.iter().for_each(|share| sum += *share);
    (recent.len() == WINDOW && sum.steal_pct() >= STEAL_PCT).then_some(sum)
}

fn steal_hint(steal: f64, busy: f64, instance_type: Option<&str>) -> String {
    let seen = format!("The hypervisor has withheld {steal:.0} % of the CPU time for half a minute");
    match instance_type.map(|name| (name, baseline_pct(name))) {
        Some((name, Some(baseline))) if (busy - baseline).abs() <= NEAR_BASELINE => format!(
            "{seen}: the CPU credits of this {name} are spent, it is held at its baseline of {baseline} % of each vCPU, \
             and CloudWatch sees only what is left."
        ),
        Some((name, Some(baseline))) => format!(
            "{seen} and left {busy:.0} %, which is not the baseline of this {name} ({baseline} % of each vCPU): its CPU \
             credits aren't the reason; CloudWatch sees what is left."
        ),
        Some((name, None)) => {
            format!(
                "{seen}: {name} is no burstable type, so others on its hardware have it; CloudWatch sees what is left."
            )
        }
        None => format!(
            "{seen}: on a burstable instance (t2, t3, t3a, t4g) that is held at its baseline the CPU credits are spent; \
             CloudWatch sees only what is left."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(steal: f64) -> Share {
        Share { busy: 10.0, steal, total: 100.0 }
    }

    fn hints(cgroup: Option<CpuCgroup>) -> Hints {
        Hints::new(cgroup, Arc::new(|| Some("t3.micro".into())), Arc::new(Aside::new(|| 0.0)))
    }

    fn hints_over(seconds: &[f64]) -> Vec<String> {
        let mut hints = hints(None);
        let mut said = Vec::new();
        for steal in seconds {
            said.extend(hints.second(share(*steal)));
            if let Steal::Asking { answer, .. } = &hints.steal {
                // Put back what was asked for once it is there.
                let there = answer.recv().unwrap();
                let (sender, answer) = channel();
                sender.send(there).unwrap();
                hints.steal = Steal::Asking { steal_pct: *steal, busy_pct: 10.0, answer };
            }
        }
        said
    }

    #[test]
    fn half_a_minute_of_steal_brings_one_hint() {
        let said = hints_over(&[60.0; 100]);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].contains("withheld 60 %")
                && said[0].contains("t3.micro")
                && said[0].contains("10 % of each")
        );
        assert_eq!(hints_over(&[60.0; 20]), Vec::<String>::new());
        assert_eq!(hints_over(&[1.0; 100]), Vec::<String>::new());
        let mut short = vec![0.0; 60];
        short[30] = 50.0;
        assert_eq!(hints_over(&short), Vec::<String>::new(), "one bad second is none");
    }

    #[test]
    fn spent_credits_are_named_only_near_the_types_baseline() {
        assert!(steal_hint(90.0, 10.0, Some("t3.micro")).contains("are spent"));
        assert!(steal_hint(9.0, 91.0, Some("t3.micro")).contains("aren't the reason"));
        assert!(steal_hint(9.0, 91.0, Some("m7i.large")).contains("no burstable type"));
        assert!(steal_hint(9.0, 91.0, None).contains("on a burstable instance"));
        assert_eq!(baseline_pct("t2.xlarge"), Some(22.5));
        assert_eq!(baseline_pct("t4g.2xlarge"), Some(40.0));
        assert_eq!(baseline_pct("t3"), None);
    }

    #[test]
    fn a_quota_that_throttles_is_told_once_also_one_that_was_set_later() {
        let dir = tempfile::tempdir().unwrap();
        let stat = |usec: u64| {
            std::fs::write(dir.path().join("cpu.stat"), format!("throttled_usec {usec}\n")).unwrap()
        };
        stat(5_000_000);
        let mut hints = hints(Some(CpuCgroup {
            version: crate::sys::cgroup::Version::V2,
            mount: dir.path().to_owned(),
            own: dir.path().to_owned(),
        }));
        let five = |hints: &mut Hints| (0..5).filter_map(|_| hints.second(share(0.0))).collect::<Vec<_>>();
        assert_eq!(five(&mut hints), Vec::<String>::new());
        stat(6_000_000);
        std::fs::write(dir.path().join("cpu.max"), "50000 100000\n").unwrap();
        assert!(five(&mut hints)[0].starts_with("A cgroup quota of 0.50 CPUs"));
        assert_eq!(five(&mut hints), Vec::<String>::new());
        assert!((hints.throttled_secs() - 1.0).abs() < 1e-9);
    }
}
