//! What is said once during a run when something holds the load back: spent CPU credits, a cgroup quota.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::host::Share;
use crate::sys::cgroup::Quota;

/// Steal of a few percent,
const STEAL_PCT: f64 = 3.0;
/// for this many seconds.
const WINDOW: usize = 30;
/// Seconds of throttling that are worth a line.
const THROTTLED_SECS: f64 = 0.5;

/// Tells the instance's type, such as `t3.micro`; may take seconds. `None` off EC2.
pub type InstanceType = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The share of each vCPU that a burstable instance earns credits for, in percent. From
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-credits-baseline-concepts.html>, table "Baseline
/// utilization per vCPU".
fn baseline_pct(instance_type: &str) -> Option<f64> {
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
    throttling: Option<Throttling>,
    instance_type: InstanceType,
}

#[derive(Debug)]
enum Steal {
    Watching,
    Asking { pct: f64, answer: Receiver<Option<String>> },
    Said,
}

#[derive(Debug)]
struct Throttling {
    quota: Quota,
    before: f64,
    said: bool,
}

impl Hints {
    pub(super) fn new(quota: Option<Quota>, instance_type: InstanceType) -> Self {
        let throttling = quota.map(|quota| Throttling { before: quota.throttled_secs(), said: false, quota });
        Self { recent: VecDeque::new(), steal: Steal::Watching, throttling, instance_type }
    }

    /// Seconds for which a quota has stopped those whom it binds since the start.
    pub(super) fn throttled_secs(&self) -> f64 {
        self.throttling.as_ref().map_or(0.0, |t| (t.quota.throttled_secs() - t.before).max(0.0))
    }

    /// What is to be said after a second of which `host` became.
    pub(super) fn second(&mut self, host: Share) -> Option<String> {
        self.about_steal(host).or_else(|| self.about_throttling())
    }

    fn about_steal(&mut self, host: Share) -> Option<String> {
        match &self.steal {
            Steal::Said => None,
            Steal::Watching => {
                let pct = window(&mut self.recent, host)?;
                let ((sender, answer), ask) = (channel(), Arc::clone(&self.instance_type));
                // On a thread of its own: the metadata service may take its time, the deadline won't wait.
                let asking = std::thread::Builder::new().spawn(move || sender.send(ask()));
                self.steal = if asking.is_ok() { Steal::Asking { pct, answer } } else { Steal::Said };
                None
            }
            Steal::Asking { pct, answer } => {
                let instance_type = match answer.try_recv() {
                    Ok(answer) => answer,
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => None,
                };
                let hint = steal_hint(*pct, instance_type.as_deref());
                self.steal = Steal::Said;
                Some(hint)
            }
        }
    }

    fn about_throttling(&mut self) -> Option<String> {
        let throttled = self.throttled_secs();
        let throttling = self.throttling.as_mut().filter(|t| !t.said && throttled > THROTTLED_SECS)?;
        throttling.said = true;
        Some(format!(
            "A cgroup quota of {:.2} CPUs stops the workers ({}): CloudWatch sees only what it lets through.",
            throttling.quota.cpus,
            throttling.quota.at.display()
        ))
    }
}

/// The mean steal of the last half minute, once there is one and it is above a few percent.
fn window(recent: &mut VecDeque<Share>, host: Share) -> Option<f64> {
    recent.push_back(host);
    if recent.len() > WINDOW {
        recent.pop_front();
    }
    let mut sum = Share::default();
    recent.iter().for_each(|share| sum += *share);
    (recent.len() == WINDOW && sum.steal_pct() >= STEAL_PCT).then(|| sum.steal_pct())
}

fn steal_hint(pct: f64, instance_type: Option<&str>) -> String {
    let seen = format!("The hypervisor has withheld {pct:.0} % of the CPU time for half a minute");
    match instance_type.map(|name| (name, baseline_pct(name))) {
        Some((name, Some(baseline))) => format!(
            "{seen}: the CPU credits of this {name} are spent, it is held at its baseline of {baseline} % of each vCPU, \
             and CloudWatch sees only what is left."
        ),
        Some((name, None)) => {
            format!(
                "{seen}: {name} is no burstable type, so others on its hardware have it; CloudWatch sees what is left."
            )
        }
        None => format!(
            "{seen}: on a burstable instance (t2, t3, t3a, t4g) the CPU credits are spent, and CloudWatch sees only what \
             is left."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(steal: f64) -> Share {
        Share { busy: 10.0, steal, total: 100.0 }
    }

    fn hints_over(seconds: &[f64]) -> Vec<String> {
        let mut hints = Hints::new(None, Arc::new(|| Some("t3.micro".into())));
        let mut said = Vec::new();
        for steal in seconds {
            said.extend(hints.second(share(*steal)));
            if matches!(hints.steal, Steal::Asking { .. }) {
                std::thread::sleep(std::time::Duration::from_millis(20));
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
    fn a_type_that_is_not_burstable_or_not_known_gets_its_own_words() {
        assert!(steal_hint(9.0, Some("m7i.large")).contains("no burstable type"));
        assert!(steal_hint(9.0, None).contains("on a burstable instance"));
        assert_eq!(baseline_pct("t2.xlarge"), Some(22.5));
        assert_eq!(baseline_pct("t4g.2xlarge"), Some(40.0));
        assert_eq!(baseline_pct("t3"), None);
    }

    #[test]
    fn a_throttling_quota_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let stat = |usec: u64| {
            std::fs::write(dir.path().join("cpu.stat"), format!("throttled_usec {usec}\n")).unwrap()
        };
        stat(5_000_000);
        let mut hints = Hints::new(Some(Quota { cpus: 0.5, at: dir.path().to_owned() }), Arc::new(|| None));
        assert_eq!(hints.second(share(0.0)), None);
        stat(6_000_000);
        assert!(hints.second(share(0.0)).unwrap().starts_with("A cgroup quota of 0.50 CPUs stops"));
        assert_eq!(hints.second(share(0.0)), None);
        assert!((hints.throttled_secs() - 1.0).abs() < 1e-9);
    }
}
