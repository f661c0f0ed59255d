//! What speaks against making this target fail, as the baseline shows it: that nothing can be learned, that clients would
//! lose everything, or that something is wrong already. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use crate::drill::analysis::group::Group;
use crate::drill::analysis::window;
use crate::drill::client::sample::{Book, Outcome};

/// So many answers of each address are wanted before it is said who answers there: with two targets, ten answers of the
/// same one come about by chance once in a thousand times.
const ENOUGH: u64 = 10;
/// So many answers for each instance that was seen: fewer may have missed one.
const ENOUGH_EACH: usize = 8;

/// Something that speaks against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refusal {
    /// In a word: `errors`, `silent`, `answers_itself`, `nameless`, `unknown_instance`, `not_ours`, `only_target`,
    /// `at_minimum`, `unhealthy`.
    pub reason: &'static str,
    /// In a sentence.
    pub why: String,
    /// What to do.
    pub way_out: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.why, self.way_out)
    }
}

/// What is known after the baseline.
#[derive(Debug)]
pub struct Baseline<'a> {
    /// Every request.
    pub book: &'a Book,
    /// The addresses of the name.
    pub present: &'a [SocketAddr],
    /// Who would fail.
    pub us: Option<&'a str>,
    /// What the target here calls itself, where it could be asked.
    pub here: Option<&'a str>,
    /// The header in which answers name their instance.
    pub header: &'a str,
    /// The target group.
    pub group: &'a Group,
    /// How long it lasted.
    pub lasted: Duration,
    /// How long an answer may take.
    pub deadline: Duration,
    /// Why no certificate was trusted, if that was it.
    pub untrusted: Option<&'a str>,
    /// What the load balancer's probes of this target say against it.
    pub probes: Option<String>,
}

impl Baseline<'_> {
    /// Whether there are answers enough to say who is there.
    pub fn is_enough(&self) -> bool {
        let ended = |node: &SocketAddr| self.book.asked(node).count >= ENOUGH;
        let samples = self.book.samples().len();
        self.present.iter().all(ended) && samples >= ENOUGH_EACH * (self.book.instances().len() + 1)
    }

    /// How many targets answer at the address that has the fewest, of those that use this one; `None` where nobody says its
    /// name. An address may know the targets of its own zone only.
    pub fn targets(&self) -> Option<u32> {
        let us = self.us.and_then(|us| self.book.place_of(us));
        let mut fewest = None;
        for node in self.present {
            let seen = self.book.seen_at(node);
            if seen.is_empty() || (us.is_some() && !seen.iter().any(|one| Some(*one) == us)) {
                continue;
            }
            // Who answers without a name is somebody too.
            let nameless = u32::from(self.book.asked(node).nameless);
            let count = u32::try_from(seen.len()).unwrap_or(u32::MAX).saturating_add(nameless);
            fewest = Some(fewest.map_or(count, |least: u32| least.min(count)));
        }
        fewest
    }

    /// Whether another address has targets enough without this one for it to stay in the name.
    pub fn elsewhere(&self) -> bool {
        let us = self.us.and_then(|us| self.book.place_of(us));
        self.present.iter().any(|node| {
            let seen = self.book.seen_at(node);
            let all = u32::try_from(seen.len()).unwrap_or(u32::MAX);
            let ours = us.is_some_and(|us| seen.contains(&us));
            all > 0 && !self.group.leaves_name(all - u32::from(ours), all)
        })
    }

    /// Everything that speaks against it.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut all: Vec<Refusal> =
            [self.errors(), self.silent(), self.answers_itself()].into_iter().flatten().collect();
        // Who is there is asked of answers only.
        if all.is_empty() {
            all.extend(self.identity());
            all.extend(self.vanished());
        }
        all.extend(self.probes.as_ref().map(|why| {
            Refusal {
                reason: "unhealthy",
                why: why.clone(),
                way_out:
                    "see why with `agent status` and `agent probes`, and begin when this target is healthy"
                        .to_owned(),
            }
        }));
        all
    }

    fn errors(&self) -> Option<Refusal> {
        let first = self.book.samples().iter().find(|one| !one.is_ok())?;
        let (node, how) = (self.book.node_of(&first), window::name(first.outcome));
        let why = self.untrusted.map_or_else(String::new, |why| format!(" ({why})"));
        let (failed, all) = (self.book.samples().errors(), self.book.samples().len());
        Some(Refusal {
            reason: "errors",
            why: format!(
                "the baseline is not clean: {failed} of {all} requests failed, the first at {node} with {how}{why}"
            ),
            way_out: "see to it first".to_owned(),
        })
    }

    fn silent(&self) -> Option<Refusal> {
        let silent = self.present.iter().find(|node| self.book.asked(node).count == 0)?;
        let waited = (self.lasted + self.deadline).as_secs_f64();
        Some(Refusal {
            reason: "silent",
            why: format!("the baseline is not clean: {silent} has not answered in {waited:.1} s"),
            way_out: "see to it first".to_owned(),
        })
    }

    fn answers_itself(&self) -> Option<Refusal> {
        let (own, first) = self.book.own();
        let first = first?;
        let redirects = matches!(first.outcome, Outcome::Status(300..=399));
        let all = self.book.samples().len();
        Some(Refusal {
            reason: "answers_itself",
            why: format!(
                "the load balancer answers by itself: {own} of {all} answers ({}) say that they are its own (Server: awselb)",
                window::name(first.outcome)
            ),
            way_out: if redirects {
                "a rule of the listener redirects: measure the URL that it redirects to".to_owned()
            } else {
                "a rule of the listener answers: measure a path that it forwards to the target group"
                    .to_owned()
            },
        })
    }

    fn identity(&self) -> Option<Refusal> {
        let names = self.book.instances();
        if names.is_empty() {
            return Some(Refusal {
                reason: "nameless",
                why: format!(
                    "no answer names its instance in {}: who takes over, and when this target is back, can't be told",
                    self.header
                ),
                way_out: format!(
                    "let nginx say it (`add_header X-Instance-Id i-…;`), name another header than {} with --instance-header, or \
                     measure /health",
                    self.header
                ),
            });
        }
        let all = list(names);
        let Some(us) = self.us else {
            return Some(Refusal {
                reason: "unknown_instance",
                why: format!(
                    "{all} answered, and which of them is this one isn't known: neither the metadata service nor nginx says"
                ),
                way_out: "name it with --expect-instance".to_owned(),
            });
        };
        if let Some(here) = self.here.filter(|here| *here != us) {
            return Some(Refusal {
                reason: "not_ours",
                why: format!("{us} is expected to fail, and the target here calls itself {here}"),
                way_out: format!("run the drill on {us}, or leave out --expect-instance"),
            });
        }
        if self.book.place_of(us).is_none() {
            return Some(Refusal {
                reason: "not_ours",
                why: format!("{all} answered, and this instance ({us}) never did: another URL, another target group, or it is out of use"),
                way_out: "give the URL of the load balancer that sends requests here, or name this instance with --expect-instance".to_owned(),
            });
        }
        let targets = self.targets()?;
        let left = targets.saturating_sub(1);
        if left == 0 {
            return Some(Refusal {
                reason: "only_target",
                why: match names.len() {
                    1 => format!(
                        "this instance ({us}) is the only target that answers: clients would lose everything while it fails"
                    ),
                    _ => format!(
                        "this instance ({us}) is the only target that answers at one of the addresses: clients of that one \
                         would lose everything while it fails"
                    ),
                },
                way_out: "register another target first".to_owned(),
            });
        }
        self.group.fails_open(left, targets).then(|| Refusal {
            reason: "at_minimum",
            why: format!(
                "{targets} targets answer, and without this one the group is below its minimum of {} healthy ones: the load \
                 balancer would fail open and go on sending requests here while it fails",
                self.group.routing_min
            ),
            way_out: "register another target first, or lower target_group_health.unhealthy_state_routing".to_owned(),
        })
    }

    /// An instance that answered and then fell silent is being taken out, or fails already.
    fn vanished(&self) -> Option<Refusal> {
        let all = u32::try_from(self.book.samples().len()).ok().filter(|all| *all > 0)?;
        let each = self.lasted / all * u32::try_from(self.book.instances().len()).ok()?;
        let quiet = Duration::from_secs(2).max(each * 20);
        let gone = self.book.named().filter(|(_, answers)| answers.last + quiet < self.lasted);
        let gone: Vec<String> = gone.map(|(name, _)| name.to_owned()).collect();
        (!gone.is_empty()).then(|| Refusal {
            reason: "unhealthy",
            why: format!(
                "{} answered in the baseline and then did no more: unhealthy, or going",
                list(&gone)
            ),
            way_out: "wait until every target is healthy".to_owned(),
        })
    }
}

/// The first few of them.
pub fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::analysis::window::tests::sample;
    use crate::drill::client::sample::{Class, Sample};

    const OK: Outcome = Outcome::Status(200);

    /// Two addresses; the answers of each come from these in turn, twenty a second for five seconds.
    fn book(of: [&[&str]; 2]) -> (Book, Vec<SocketAddr>) {
        let mut book = Book::default();
        let nodes: Vec<SocketAddr> = ["10.0.0.1:80", "10.0.0.2:80"].map(|one| one.parse().unwrap()).to_vec();
        for (node, names) in nodes.iter().zip(of) {
            let node = book.node(*node);
            for n in 0..100_usize {
                let who = names.get(n % names.len().max(1)).and_then(|name| book.instance(name));
                book.enter(Sample { node, ..sample(n as u64 * 50, OK, who) });
            }
        }
        (book, nodes)
    }

    /// The same, with samples that `change` has changed.
    fn changed(of: [&[&str]; 2], change: impl Fn(usize, &mut Sample)) -> (Book, Vec<SocketAddr>) {
        let (before, nodes) = book(of);
        let mut after = Book::default();
        nodes.iter().for_each(|node| _ = after.node(*node));
        before.instances().iter().for_each(|name| _ = after.instance(name));
        after.extend(before.samples().iter().enumerate().map(|(place, mut one)| {
            change(place, &mut one);
            one
        }));
        (after, nodes)
    }

    fn reasons(book: &Book, present: &[SocketAddr], us: Option<&str>, minimum: &str) -> Vec<&'static str> {
        let group = Group { routing_min: minimum.parse().unwrap(), ..Group::default() };
        let baseline = Baseline {
            book,
            present,
            us,
            here: None,
            header: "x-instance-id",
            group: &group,
            lasted: Duration::from_secs(5),
            deadline: Duration::from_secs(5),
            untrusted: None,
            probes: None,
        };
        let found = baseline.refusals();
        assert!(found.iter().all(|one| !one.way_out.is_empty() && !one.why.is_empty()));
        found.iter().map(|one| one.reason).collect()
    }

    #[test]
    fn two_targets_that_name_themselves_are_nothing_to_refuse() {
        let (book, nodes) = book([&["i-a", "i-b"]; 2]);
        assert_eq!(reasons(&book, &nodes, Some("i-a"), "1"), [""; 0]);
    }

    #[test]
    fn nothing_can_be_learned_where_nobody_or_somebody_else_answers() {
        let (nameless, nodes) = book([&[]; 2]);
        assert_eq!(reasons(&nameless, &nodes, Some("i-a"), "1"), ["nameless"]);
        let (others, nodes) = book([&["i-b", "i-c"]; 2]);
        assert_eq!(reasons(&others, &nodes, Some("i-a"), "1"), ["not_ours"]);
        assert_eq!(reasons(&others, &nodes, None, "1"), ["unknown_instance"]);
    }

    #[test]
    fn clients_would_lose_everything_with_one_target_or_below_the_minimum() {
        let (alone, nodes) = book([&["i-a"]; 2]);
        assert_eq!(reasons(&alone, &nodes, Some("i-a"), "1"), ["only_target"]);
        let (zonal, nodes) = book([&["i-a"], &["i-b", "i-c"]]);
        assert_eq!(
            reasons(&zonal, &nodes, Some("i-a"), "1"),
            ["only_target"],
            "each address has its own zone's targets"
        );
        assert_eq!(reasons(&zonal, &nodes, Some("i-b"), "1"), [""; 0]);
        let (two, nodes) = book([&["i-a", "i-b"]; 2]);
        for minimum in ["2", "51%", "9"] {
            assert_eq!(reasons(&two, &nodes, Some("i-a"), minimum), ["at_minimum"], "{minimum}");
        }
        assert_eq!(reasons(&two, &nodes, Some("i-a"), "50%"), [""; 0]);
    }

    #[test]
    fn what_is_wrong_already_is_said() {
        const BOTH: [&[&str]; 2] = [&["i-a", "i-b"]; 2];
        let (bad, nodes) = changed(BOTH, |place, one| {
            if place == 7 {
                one.outcome = Outcome::Failed(Class::Reset);
            }
        });
        assert_eq!(reasons(&bad, &nodes, Some("i-a"), "1"), ["errors"]);
        let (own, nodes) = changed(BOTH, |place, one| {
            if place == 7 {
                (one.instance, one.own, one.outcome) = (None, true, Outcome::Status(301));
            }
        });
        assert_eq!(reasons(&own, &nodes, Some("i-a"), "1"), ["answers_itself"]);
        let (gone, nodes) = changed(BOTH, |_, one| {
            if one.start() > Duration::from_secs(2) {
                one.instance = one.instance.map(|_| 0);
            }
        });
        let other = gone.place_of("i-b");
        assert_eq!((other, reasons(&gone, &nodes, Some("i-a"), "1")), (Some(1), vec!["unhealthy"]));
        let (book, mut nodes) = book(BOTH);
        nodes.push("10.0.0.3:80".parse().unwrap());
        assert_eq!(reasons(&book, &nodes, Some("i-a"), "1"), ["silent"]);
    }
}
