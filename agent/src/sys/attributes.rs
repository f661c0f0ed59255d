//! What a process has from whoever started it and can't be read from its arguments: scheduling, limits, capabilities,
//! its control group, where its output goes (proc(5)). Its successor should have the same.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

/// One limit: soft and hard, `None` for unlimited.
pub type Limit = (Option<u64>, Option<u64>);

/// What a process inherited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// −20 to 19.
    pub nice: i32,
    /// The scheduling policy's number (sched(7)): 0 is `SCHED_OTHER`.
    pub policy: i32,
    /// Of a real-time policy; otherwise 0.
    pub rt_priority: i32,
    /// The CPUs it may run on, as `0-3,7`.
    pub cpus: String,
    /// −1000 to 1000.
    pub oom_score_adj: i32,
    /// By the names of `/proc/PID/limits`.
    pub limits: BTreeMap<String, Limit>,
    /// Inheritable, permitted, effective, bounding and ambient (capabilities(7)), a bit each.
    pub capabilities: Capabilities,
    /// Whether no program it runs may gain privileges.
    pub no_new_privs: bool,
    /// The lines of `/proc/PID/cgroup`.
    pub cgroup: Vec<String>,
    /// Where its descriptor 1 leads, as `/proc/PID/fd/1` says; empty where it is closed.
    pub stdout: String,
    /// The same of descriptor 2.
    pub stderr: String,
    /// Whether its stderr is a log that it opened itself, and will open again.
    pub logs_itself: bool,
}

/// The five sets of a process, a bit for each capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Kept by programs that ask for it.
    pub inheritable: u64,
    /// What it may use.
    pub permitted: u64,
    /// What it uses.
    pub effective: u64,
    /// What no program of its can get beyond.
    pub bounding: u64,
    /// What programs get without asking.
    pub ambient: u64,
}

impl Attributes {
    /// Of the process that bears `pid` now.
    ///
    /// # Errors
    /// When there is none, or we may not look.
    pub fn of(pid: i32) -> io::Result<Self> {
        let read = |name| std::fs::read(format!("/proc/{pid}/{name}"));
        let text = |name| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let link = |fd| {
            let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"));
            link.map(|l| l.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let stderr = link(2);
        let others = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut others = others.filter(|fd| !["0", "1", "2"].iter().any(|n| fd.file_name() == *n));
        let logs_itself = stderr.starts_with('/')
            && others.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|l| *l == *stderr));
        let odd = || io::Error::other(format!("/proc/{pid}/stat or status is not as documented"));
        let (nice, rt_priority, policy) = scheduling(&read("stat")?).ok_or_else(odd)?;
        let status = text("status")?;
        let (capabilities, no_new_privs, cpus) = standing(&status).ok_or_else(odd)?;
        Ok(Self {
            nice,
            policy,
            rt_priority,
            cpus,
            oom_score_adj: text("oom_score_adj")?.trim().parse().map_err(|_| odd())?,
            limits: limits(&text("limits")?),
            capabilities,
            no_new_privs,
            cgroup: text("cgroup").unwrap_or_default().lines().map(str::to_owned).collect(),
            stdout: link(1),
            stderr,
            logs_itself,
        })
    }

    /// What of `now` is otherwise than it was, a few words each. Control group and outputs are not compared: where those
    /// should be depends on who starts it.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, was: String, is: String| {
            if was != is {
                found.push(format!("{what} was {was} and is {is}"));
            }
        };
        compare("nice", self.nice.to_string(), now.nice.to_string());
        let policy = |a: &Self| format!("{} priority {}", a.policy, a.rt_priority);
        compare("scheduling policy", policy(self), policy(now));
        compare("CPU affinity", self.cpus.clone(), now.cpus.clone());
        compare("oom_score_adj", self.oom_score_adj.to_string(), now.oom_score_adj.to_string());
        compare("no_new_privs", self.no_new_privs.to_string(), now.no_new_privs.to_string());
        let sets = |a: &Self| {
            let c = a.capabilities;
            [
                ("inheritable", c.inheritable),
                ("permitted", c.permitted),
                ("effective", c.effective),
                ("bounding", c.bounding),
                ("ambient", c.ambient),
            ]
        };
        for ((name, was), (_, is)) in sets(self).into_iter().zip(sets(now)) {
            compare(&format!("{name} capabilities"), format!("{was:#x}"), format!("{is:#x}"));
        }
        for (name, was) in &self.limits {
            let is = now.limits.get(name).copied().unwrap_or(*was);
            compare(&format!("limit \"{name}\""), limit_text(*was), limit_text(is));
        }
        found
    }
}

fn limit_text((soft, hard): Limit) -> String {
    let each = |value: Option<u64>| value.map_or("unlimited".to_owned(), |v| v.to_string());
    if soft == hard { each(soft) } else { format!("{}/{}", each(soft), each(hard)) }
}

/// Nice value, real-time priority and policy: fields 19, 40 and 41 of `/proc/PID/stat`.
fn scheduling(stat: &[u8]) -> Option<(i32, i32, i32)> {
    let name_ends = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some((number(16)?, number(37)?, number(38)?))
}

fn standing(status: &str) -> Option<(Capabilities, bool, String)> {
    let line =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let mask = |name| line(name).and_then(|m| u64::from_str_radix(m, 16).ok());
    let capabilities = Capabilities {
        inheritable: mask("CapInh")?,
        permitted: mask("CapPrm")?,
        effective: mask("CapEff")?,
        bounding: mask("CapBnd")?,
        ambient: mask("CapAmb").unwrap_or(0), // Linux 4.3
    };
    Some((capabilities, line("NoNewPrivs") == Some("1"), line("Cpus_allowed_list")?.to_owned()))
}

/// A line is a name of 25 letters, and two numbers or `unlimited` (`proc_pid_limits` in fs/proc/base.c).
fn limits(text: &str) -> BTreeMap<String, Limit> {
    let line = |line: &str| {
        let (name, values) = line.split_at_checked(26)?;
        let mut values = values.split_ascii_whitespace();
        let mut value = || match values.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some((name.trim().to_owned(), (value()?, value()?)))
    };
    text.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_a_process_was_started_with_is_read_and_differences_are_named() {
        let start = |command: &str| {
            let mut child =
                Command::new("sh").args(["-c", &format!("{command} exec sleep 60")]).spawn().unwrap();
            let pid = child.id().cast_signed();
            let asleep =
                || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(b"sleep"));
            while !asleep() {
                std::thread::yield_now();
            }
            let attributes = Attributes::of(pid).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            attributes
        };
        let plain = start("");
        assert_eq!(plain.differences(&start("")), Vec::<String>::new());
        let other = start(
            "ulimit -n 77; ulimit -c 0; echo 500 >/proc/self/oom_score_adj; renice -n 7 $$ >/dev/null;",
        );
        assert_eq!((other.nice, other.oom_score_adj), (plain.nice + 7, 500));
        assert_eq!(other.limits["Max open files"], (Some(77), Some(77)));
        let named = plain.differences(&other).join("; ");
        assert!(
            named.contains("nice was")
                && named.contains("oom_score_adj was")
                && named.contains("\"Max open files\""),
            "{named}"
        );
    }

    #[test]
    fn limits_with_words_and_numbers_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 4096                 files     \n\
                    Max realtime priority     0                    0                    \n";
        let all = limits(text);
        assert_eq!(all["Max cpu time"], (None, None));
        assert_eq!(all["Max open files"], (Some(1024), Some(4096)));
        assert_eq!(all["Max realtime priority"], (Some(0), Some(0)));
    }
}
