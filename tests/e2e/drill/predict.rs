//! What a drill predicts and judges, held against the simulator's model of thousands of load balancers.

use std::time::Duration;

use asg_agent::drill::analysis::about::About;
use asg_agent::drill::analysis::group::{Group, RoutingMin};
use asg_agent::drill::analysis::predict::{Check, Failure, Range, Via};
use asg_agent::drill::analysis::report::{self, Facts, Report, Run, Source};
use asg_agent::drill::analysis::verdict::Answer;
use asg_agent::drill::client::sample::{Book, Class, Outcome, Sample, Stream};
use asg_agent::drill::schedule::phase::{Marks, Phase};
use asg_agent::fault::Mode;
use world::alb::model::{Failing, Story, play};
use world::alb::{self, Matcher};

/// Numbers that look random and are the same in each run (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn ms(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.roll(below))
    }
}

/// A load balancer, a fault, and how a drill would look at them.
struct Case {
    story: Story,
    mode: Mode,
    rps: u32,
}

fn draw(dice: &mut Dice) -> Case {
    let interval = [5000, 6000, 10_000][dice.roll(3) as usize];
    let timeout = Duration::from_millis(2000 + dice.roll(interval - 2000));
    let interval = Duration::from_millis(interval);
    let (healthy, unhealthy) = (2 + dice.roll(9) as u32, 2 + dice.roll(9) as u32);
    let (mode, failing) = [
        (Mode::Stop, Failing::Refuses),
        (Mode::Crash, Failing::Refuses),
        (Mode::Reject, Failing::Refuses),
        (Mode::Hang, Failing::Hangs),
        (Mode::Drop, Failing::Hangs),
        (Mode::Unhealthy, Failing::Unhealthy),
    ][dice.roll(6) as usize];
    let rps = [5, 8, 10, 20][dice.roll(4) as usize];
    let nodes = 1 + dice.roll(4);
    // Some are over before anybody notices, some while the nodes do, most later.
    let (from, least) = (interval + dice.ms(10_000), interval.as_millis() as u64);
    let lasts = Duration::from_millis(1000) + dice.ms(least * u64::from(unhealthy + 2) * 2);
    let until = from + lasts;
    let check = alb::Check {
        path: "/health".into(),
        interval,
        timeout,
        healthy_threshold: healthy,
        unhealthy_threshold: unhealthy,
        matcher: Matcher::parse("200").unwrap(),
        ..alb::Check::default()
    };
    let targets = 1 + (dice.roll(8) as usize).min(3);
    // AWS's defaults; a minimum, DNS failover; anomaly mitigation or slow start; and each of them with each other.
    let mut group = alb::Group::default();
    match dice.roll(6) {
        0 => group.routing_min = 2,
        1 => group.routing_min_percentage = Some(10 + dice.roll(90) as usize),
        2 => group.dns_min = Some(1 + dice.roll(2) as usize),
        _ => {}
    }
    match dice.roll(6) {
        0 => group.anomaly_mitigation = true,
        1 => group.slow_start = Duration::from_secs(30 + dice.roll(60)),
        _ => {}
    }
    // A zone that is too small to begin with isn't in the name.
    let zones = nodes > 1 && dice.roll(2) == 0 && group.dns_min.is_none_or(|least| targets >= least);
    let slow = if group.slow_start.is_zero() && !group.anomaly_mitigation {
        Duration::ZERO
    } else {
        Duration::from_secs(60)
    };
    let name_lags = dice.ms(60_000);
    let slow = if group.dns_min.is_some() { slow + Duration::from_secs(60) } else { slow };
    let story = Story {
        check,
        group,
        phases: (0..nodes).map(|_| dice.ms(least)).collect(),
        targets,
        zones,
        name_lags,
        failing,
        from,
        until,
        end: until + interval * (healthy + 1) + slow + Duration::from_secs(2),
        period: Duration::from_secs(1) / rps,
        deadline: Duration::from_secs(5),
    };
    Case { story, mode, rps }
}

/// The target group in our words.
fn group(story: &Story) -> Group {
    let alb::Group { routing_min, routing_min_percentage, dns_min, anomaly_mitigation, slow_start, .. } =
        story.group;
    let dns_min = dns_min.map(|least| RoutingMin { count: u32::try_from(least).unwrap(), percentage: None });
    let percentage = routing_min_percentage.and_then(|pct| u32::try_from(pct).ok());
    let routing_min = RoutingMin { count: u32::try_from(routing_min).unwrap(), percentage };
    Group { routing_min, dns_min, anomaly_mitigation, slow_start }
}

/// Whether the others are enough for the load balancer to stop using the first.
fn takes_out(story: &Story) -> bool {
    let targets = u32::try_from(story.targets).unwrap();
    !group(story).fails_open(targets - 1, targets)
}

fn name(target: usize) -> String {
    format!("i-{target}")
}

/// The report of a drill that sees all of it.
fn report(Case { story, mode, rps }: &Case) -> Report {
    let mut book = Book::default();
    let micros = |time: Duration| time.as_micros() as u64;
    for asked in play(story) {
        let sample = Sample {
            due_us: micros(asked.at),
            start_us: micros(asked.at),
            end_us: micros(asked.at + asked.took),
            node: book.node(([127, 0, 0, asked.node as u8 + 1], 80).into()),
            instance: asked.by.and_then(|target| {
                // Each zone has targets of its own.
                let zone = if story.zones { 100 * asked.node } else { 0 };
                book.instance(&name(zone + target))
            }),
            stream: Stream::New,
            outcome: match (asked.by, story.failing) {
                (Some(_), _) => Outcome::Status(200),
                (None, Failing::Hangs) => Outcome::Failed(Class::ReadTimeout),
                (None, _) => Outcome::Status(502),
            },
            own: false,
        };
        book.enter(sample);
    }
    let mut marks = Marks { end: story.end, ..Marks::default() };
    marks.begin(Phase::Baseline, Duration::ZERO);
    marks.begin(Phase::Hold, story.from);
    (marks.armed, marks.effective) = (Some(story.from), Some(story.from));
    (marks.recovering, marks.recovered) = (Some(story.until), Some(story.until));
    let settings = &story.check;
    let check = Check {
        interval: settings.interval,
        timeout: settings.timeout,
        healthy: settings.healthy_threshold,
        unhealthy: settings.unhealthy_threshold,
        via: Via::Nginx,
        group: group(story),
    };
    let failure = Failure {
        mode: *mode,
        lasts: Range::default(),
        delay: Duration::ZERO,
        deadline: story.deadline,
        of_health: false,
        targets: None,
        elsewhere: false,
        rps: *rps,
    };
    let facts = Facts {
        about: About { rps: *rps, ..About::default() },
        mode: *mode,
        observed: false,
        secs: 0.0,
        deadline_ms: 0.0,
        instance: Some(name(0)),
        interval_ms: 0.0,
        interval_source: Source::Given,
        timeout_ms: 0.0,
        timeout_source: Source::Given,
        healthy: 0,
        healthy_source: Source::Given,
        unhealthy: 0,
        unhealthy_source: Source::Given,
        routing_min: String::new(),
        routing_min_source: Source::Assumed,
        dns_failover: None,
        anomaly_mitigation: false,
        slow_start_ms: 0.0,
        checks: Via::Nginx,
    };
    let run = Run {
        present: book.nodes().to_vec(),
        book,
        marks,
        us: Some(name(0)),
        here: None,
        targets: u32::try_from(story.targets).ok(),
        elsewhere: story.zones,
        signal: None,
        aborted: None,
        ended: Some(Ok(())),
        leaving: None,
        left: Vec::new(),
        quiet: Duration::ZERO,
        drained: None,
        noticed: None,
        in_flight: 0,
        unfinished: 0,
    };
    report::build(&run, &check, &failure, facts, Vec::new())
}

#[test]
fn what_happens_lies_in_what_is_predicted_in_99_of_100_runs() {
    const RUNS: u32 = 1000;
    let mut dice = Dice(7);
    let mut misses = Vec::new();
    for number in 0..RUNS {
        let case = draw(&mut dice);
        let found = report(&case);
        if found.hypothesis.answer != Answer::Yes {
            misses.push(format!("run {number}: {:?} {:?}", case.story, found.hypothesis.why));
        }
        let detected = found.predicted.and_then(|p| p.detection).unwrap().most + Duration::from_secs(4);
        if case.story.targets == 1
            && case.story.group.dns_min.is_none()
            && case.story.until - case.story.from > detected
        {
            assert_eq!(found.safety.answer, Answer::No, "run {number}: failed open unseen: {:?}", case.story);
        }
        if takes_out(&case.story) {
            assert_eq!(found.safety.answer, Answer::Yes, "run {number}: {:?} {:?}", case.story, found.safety);
        }
    }
    assert!(
        misses.len() * 100 <= RUNS as usize,
        "{} of {RUNS}: {:#?}",
        misses.len(),
        &misses[..misses.len().min(3)]
    );
}

#[test]
fn the_bounds_are_not_wider_than_they_must_be() {
    // A target that is found unhealthy at random instants fills its interval: the extremes of many runs come near both
    // ends.
    let mut dice = Dice(11);
    let (mut least, mut most) = (f64::MAX, 0.0_f64);
    for _ in 0..1000 {
        let mut case = draw(&mut dice);
        if case.mode != Mode::Stop || case.story.targets == 1 || case.story.phases.len() > 1 {
            continue;
        }
        (case.story.check.unhealthy_threshold, case.rps) = (3, 20);
        case.story.period = Duration::from_millis(50);
        case.story.until = case.story.from + case.story.check.interval * 4;
        case.story.end = case.story.until + Duration::from_secs(1);
        let found = report(&case);
        let part = found.outage_ms.unwrap() / case.story.check.interval.as_secs_f64() / 1e3;
        (least, most) = (least.min(part), most.max(part));
    }
    assert!(least < 2.1 && most > 2.9, "outages from {least} to {most} intervals, 2 to 3 are predicted");
}
