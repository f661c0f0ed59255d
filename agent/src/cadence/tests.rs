use super::*;
use proptest::prelude::*;

const A: &str = "172.31.5.17";
const B: &str = "172.31.20.4";
const I: i64 = 5000;

fn beat(node: &str, stream: u64, at_ms: i64) -> ProbeArrival {
    let ended = Window::stamped(at_ms, 1);
    ProbeArrival { node: node.parse().unwrap(), stream, ended, took_ms: Some(0), status: Some(200) }
}

/// A probe of a log that has whole seconds, and not how long an answer took.
fn coarse(node: &str, stream: u64, at_ms: i64) -> ProbeArrival {
    let ended = Window::stamped(at_ms / 1000 * 1000, 1000);
    ProbeArrival { ended, took_ms: None, ..beat(node, stream, at_ms) }
}

fn seen(beats: impl IntoIterator<Item = ProbeArrival>) -> Cadence {
    let mut beats: Vec<ProbeArrival> = beats.into_iter().collect();
    beats.sort_by_key(|b| b.ended.from_ms);
    let mut cadence = Cadence::new(Some(I), None);
    for beat in beats {
        cadence.observe(beat);
    }
    cadence
}

fn node(cadence: &Cadence, node: &str, now_ms: i64) -> NodeReport {
    cadence.report(&Period::until(now_ms)).into_iter().find(|r| r.node.to_string() == node).unwrap()
}

/// Probes of one rhythm, jitter out of a fixed table of up to 30 ms each way and 14 ms of drift a probe.
fn rhythm(
    node: &str,
    key: u64,
    start: i64,
    slots: std::ops::Range<i64>,
) -> impl Iterator<Item = ProbeArrival> {
    slots.map(move |n| beat(node, key, start + n * (I + 14) + (n * 7919 + start) % 61 - 30))
}

#[test]
fn two_nodes_with_jitter_and_drift_are_on_time() {
    let cadence = seen(rhythm(A, 0, 0, 0..720).chain(rhythm(B, 0, 130, 0..720)));
    for ip in [A, B] {
        let report = node(&cadence, ip, 719 * (I + 14) + 1000);
        assert_eq!((report.probes, report.missed, report.state), (720, 0, NodeState::OnTime), "{report:?}");
        assert_eq!(report.streams, 1);
    }
}

#[test]
fn missed_probes_are_counted_from_the_rhythm_not_from_nominal_intervals() {
    // 300 slots of drift are 4.2 s: nearly one nominal interval too many.
    let kept = rhythm(A, 0, 0, 0..50).chain(rhythm(A, 0, 0, 350..400));
    let report = node(&seen(kept), A, 399 * (I + 14) + 1000);
    assert_eq!((report.probes, report.missed, report.off_rhythm), (100, 300, 0));
    assert!(!report.on_time);
}

#[test]
fn one_probe_proves_nothing_and_three_do() {
    for (probes, state) in [(1, NodeState::TooFew), (2, NodeState::TooFew), (3, NodeState::OnTime)] {
        let cadence = seen(rhythm(A, 0, 0, 0..probes));
        assert_eq!(node(&cadence, A, (probes - 1) * I + 100).state, state, "{probes}");
    }
}

#[test]
fn a_node_that_leaves_while_another_goes_on_is_gone_and_one_alone_is_late() {
    let cadence = seen(rhythm(A, 0, 0, 0..10).chain(rhythm(B, 0, 800, 0..30)));
    let report = node(&cadence, A, 30 * I);
    assert_eq!((report.state, report.missed, report.on_time), (NodeState::Gone, 0, true));
    let alone = seen(rhythm(A, 0, 0, 0..10));
    let report = node(&alone, A, 9 * (I + 14) + 12_000);
    assert_eq!((report.state, report.missed), (NodeState::Late, 2));
}

#[test]
fn a_node_that_comes_back_after_a_while_is_a_new_rhythm() {
    let back = rhythm(A, 0, 0, 0..10).chain(rhythm(A, 0, 2300, 40..60));
    let report = node(&seen(back.chain(rhythm(B, 0, 700, 0..60))), A, 60 * I);
    assert_eq!((report.probes, report.missed, report.off_rhythm, report.streams), (30, 0, 0, 1));
}

#[test]
fn an_outage_that_silences_all_nodes_is_missed_probes() {
    let through = |node, start| rhythm(node, 0, start, 0..10).chain(rhythm(node, 0, start, 30..40));
    let cadence = seen(through(A, 0).chain(through(B, 900)));
    assert_eq!((node(&cadence, A, 40 * I).missed, node(&cadence, B, 40 * I).missed), (20, 20));
}

#[test]
fn two_streams_of_one_node_are_told_apart_by_phase_and_by_path() {
    for (keys, shift) in [([0, 0], 2500), ([0, 0], 1300), ([0, 0], 4900)] {
        let cadence = seen(rhythm(A, keys[0], 0, 0..40).chain(rhythm(A, keys[1], shift, 0..40)));
        let report = node(&cadence, A, 40 * I);
        assert_eq!(
            (report.streams, report.probes, report.missed, report.on_time),
            (2, 80, 0, true),
            "{shift}"
        );
        assert!((4900..5100).contains(&report.interval_p50_ms.unwrap()));
    }
}

#[test]
fn a_late_or_an_early_probe_is_out_of_rhythm_and_no_second_stream() {
    for shift in [2000, -2000] {
        let shifted = (0..10).map(|n| beat(A, 0, n * I + if n >= 5 { shift } else { 0 }));
        let report = node(&seen(shifted), A, 9 * I + shift + 100);
        assert_eq!((report.streams, report.missed, report.off_rhythm), (1, 0, 1), "{shift}");
        let extreme = if shift > 0 { report.interval_max_ms } else { report.interval_min_ms };
        assert_eq!(extreme, Some(I + shift));
        assert!(!report.on_time);
    }
}

#[test]
fn a_single_probe_out_of_turn_belongs_to_no_rhythm() {
    let report = node(&seen(rhythm(A, 0, 0, 0..20).chain([beat(A, 0, 52_300)])), A, 20 * I);
    assert_eq!((report.probes, report.extra, report.missed, report.on_time), (21, 1, 0, true));
}

#[test]
fn another_interval_is_never_confirmed() {
    for interval in [2000, 3000, 4000, 6000, 6500, 7000, 10_000, 30_000] {
        let report = node(&seen((0..60).map(|n| beat(A, 0, n * interval))), A, 59 * interval + 100);
        assert!(!report.on_time, "{interval}: {report:?}");
    }
}

#[test]
fn two_paths_of_one_node_are_two_schedules() {
    let mut cadence = seen([]);
    cadence.name(1, || Name { path: "/a".into(), ..Name::default() });
    cadence.name(2, || Name { path: "/b".into(), ..Name::default() });
    for n in 0..40 {
        cadence.observe(beat(A, 1, n * I));
        cadence.observe(beat(A, 2, n * I + 20));
    }
    let reports = cadence.report(&Period::until(40 * I));
    let told: Vec<_> = reports.iter().map(|r| (r.path.as_deref(), r.probes, r.on_time)).collect();
    assert_eq!(told, [(Some("/a"), 40, true), (Some("/b"), 40, true)]);
}

#[test]
fn whole_seconds_are_enough_for_five_and_don_t_hide_six() {
    let told = |interval: i64| {
        let cadence = seen((0..100).map(|n| coarse(A, 0, n * interval)));
        node(&cadence, A, 99 * interval)
    };
    assert_eq!((told(5014).on_time, told(5014).missed), (true, 0));
    assert!(!told(5900).on_time && !told(6000).on_time);
}

#[test]
fn what_whole_seconds_allow_is_no_fault() {
    for seconds in [[21, 25, 31, 36], [20, 26, 30, 36], [20, 25, 30, 36]] {
        let report = node(&seen(seconds.map(|s| coarse(A, 0, s * 1000))), A, 37_000);
        assert_eq!((report.state, report.missed, report.off_rhythm), (NodeState::OnTime, 0, 0), "{report:?}");
    }
}

#[test]
fn another_interval_is_no_lost_probes() {
    for seconds in [6, 7, 8, 10, 12, 15, 20, 30, 60, 65, 120] {
        for probes in [3, 4, 9, 60, 400] {
            for made in [beat, coarse] {
                let cadence = seen((0..probes).map(|n| made(A, 0, n * (seconds * 1000 + 14))));
                let report = node(&cadence, A, (probes - 1) * (seconds * 1000 + 14) + 100);
                assert!(!report.on_time, "{seconds} {probes} {report:?}");
                if probes > 5 {
                    let told = (report.state, report.other_interval_ms, report.missed);
                    assert_eq!(
                        told,
                        (NodeState::OtherInterval, Some(seconds * 1000), 0),
                        "{probes} {report:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_node_that_comes_every_minute_beside_one_on_time_is_told() {
    for seconds in [65, 120] {
        let other = (0..9).map(|n| coarse(B, 0, n * seconds * 1000 + 2000));
        let cadence = seen((0..seconds * 2).map(|n| coarse(A, 0, n * I)).chain(other));
        let report = node(&cadence, B, 8 * seconds * 1000 + 3000);
        assert_eq!((report.on_time, report.other_interval_ms), (false, Some(seconds * 1000)), "{report:?}");
    }
}

#[test]
fn an_interval_that_was_changed_is_told_with_when() {
    let changed = (0..40).map(|n| beat(A, 0, n * I)).chain((0..8).map(|n| beat(A, 0, 220_000 + n * 30_000)));
    let report = node(&seen(changed), A, 430_000);
    assert_eq!((report.other_interval_ms, report.missed), (Some(30_000), 0), "{report:?}");
    assert!(report.other_since_ms.is_some_and(|since| since < 260_000), "{report:?}");
}

#[test]
fn slow_answers_are_no_fault_where_the_log_says_how_long_they_took() {
    let slow = (0..60).map(|n| {
        let took = if n % 9 == 4 { 900 + n * 12 } else { 3 };
        ProbeArrival { took_ms: Some(took), ..beat(A, 0, n * I + took) }
    });
    let report = node(&seen(slow), A, 59 * I + 100);
    assert_eq!((report.on_time, report.missed), (true, 0), "{report:?}");
}

#[test]
fn what_is_overdue_is_no_total_until_the_next_probe_comes() {
    let mut cadence = seen((0..20).map(|n| beat(A, 0, n * I)));
    let late = node(&cadence, A, 22 * I + I / 2);
    assert_eq!((late.missed, late.missed_total, late.overdue), (3, 0, 3));
    cadence.observe(beat(A, 0, 23 * I));
    let back = node(&cadence, A, 23 * I);
    assert_eq!((back.missed, back.missed_total, back.overdue), (3, 3, 0));
}

#[test]
fn a_rhythm_that_was_found_again_is_well_again_and_tells_when_it_was_lost() {
    let mut cadence = seen((0..20).chain(32..40).map(|n| beat(A, 0, n * I)));
    let report = |cadence: &Cadence, from_ms: i64, to_ms: i64| {
        cadence.report(&Period { from_ms: Some(from_ms), to_ms })[0].clone()
    };
    let after = report(&cadence, 0, 39 * I);
    assert_eq!((after.on_time, after.missed, after.missed_total), (true, 12, 12));
    assert_eq!(after.last_off_ms, Some(32 * I));
    (40..400).for_each(|n| {
        cadence.observe(beat(A, 0, n * I));
    });
    let later = report(&cadence, 220 * I, 399 * I);
    assert_eq!((later.on_time, later.missed, later.missed_total), (true, 0, 12));
    cadence.observe(beat(A, 0, 402 * I));
    let again = report(&cadence, 220 * I, 402 * I);
    assert_eq!((again.on_time, again.missed, again.missed_total), (false, 2, 14));
}

#[test]
fn a_gap_is_no_missed_probe() {
    let mut cadence = seen(rhythm(A, 0, 0, 0..10));
    cadence.gap();
    rhythm(A, 0, 0, 14..24).for_each(|b| {
        cadence.observe(b);
    });
    let report = node(&cadence, A, 24 * I);
    assert_eq!((report.probes, report.missed, report.on_time), (20, 0, true));
}

#[test]
fn a_clock_that_is_set_back_starts_the_rhythm_again() {
    let mut cadence = seen(rhythm(A, 0, 10_000_000, 0..10));
    cadence.set_back();
    (0..10).for_each(|n| {
        cadence.observe(beat(A, 0, n * I));
    });
    let report = node(&cadence, A, 9 * I);
    assert_eq!(
        (report.probes, report.missed, report.off_rhythm, report.streams),
        (20, 0, 0, 1),
        "{report:?}"
    );
    assert!(report.on_time);
}

#[test]
fn auto_waits_until_it_knows_and_then_counts_all() {
    let mut cadence = Cadence::new(None, None);
    for n in 0..12 {
        cadence.observe(beat(A, 0, n * 10_014));
        cadence.observe(beat(A, 1, n * 30_000));
    }
    assert!(!cadence.is_settled());
    cadence.settle_now(false);
    assert_eq!(cadence.expected(), None, "each path has its own");
    let intervals: Vec<_> =
        cadence.report(&Period::until(11 * 30_000)).iter().map(|r| r.expected_ms).collect();
    assert_eq!(intervals, [10_000, 30_000]);
    let report = node(&cadence, A, 11 * 10_014);
    assert_eq!((report.probes, report.missed, report.on_time), (12, 0, true));
}

#[test]
fn a_crowd_of_senders_costs_bounded_memory() {
    let crowd = (0..100_000_i64).map(|n| ProbeArrival {
        stream: n.cast_unsigned(),
        ..beat(&format!("10.{}.{}.{}", n >> 12 & 255, n >> 6 & 63, n & 63), 0, n)
    });
    let cadence = seen(crowd);
    assert!(cadence.schedules.len() <= MAX_SCHEDULES && cadence.forgotten > 0);
    let crowd =
        (0..100_000_i64).map(|n| beat(&format!("10.{}.{}.{}", n >> 12 & 255, n >> 6 & 63, n & 63), 0, n));
    assert!(seen(crowd).schedules.len() <= MAX_SCHEDULES);
    let one = seen((0..100_000).map(|n| beat(A, 0, n * 10)));
    assert!(format!("{one:?}").len() < 100_000, "bounded");
}

#[test]
fn one_stream_twice_as_fast_is_not_two_streams() {
    let mut cadence = Cadence::new(Some(10_000), None);
    rhythm(A, 0, 0, 0..20).for_each(|b| {
        cadence.observe(b);
    });
    let report = node(&cadence, A, 20 * I);
    assert_eq!((report.on_time, report.streams, report.other_interval_ms), (false, 1, Some(5000)));
    assert!((4900..5100).contains(&report.interval_p50_ms.unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The truth is made by hand: which slots were dropped is known.
    #[test]
    fn lost_probes_are_counted_exactly(lost in prop::collection::btree_set(2..198_i64, 0..20), phase in 0..5000_i64, drift in -14..15_i64, seed in any::<u32>()) {
        let jitter = |n: i64| (n * 7919 + i64::from(seed)) % 61 - 30;
        let runs = (2..198).any(|n| (n..n + 4).all(|m| lost.contains(&m)));
        prop_assume!(!runs);
        let probes = (0..200).filter(|n| !lost.contains(n)).map(|n| beat(A, 0, phase + n * (I + drift) + jitter(n)));
        let others = (0..200).map(|n| beat(B, 0, n * I + 1234));
        let report = node(&seen(probes.chain(others)), A, phase + 199 * (I + drift) + 100);
        prop_assert_eq!(report.missed, lost.len() as u64);
        prop_assert_eq!(report.on_time, lost.is_empty());
        prop_assert_eq!(report.streams, 1);
    }

    #[test]
    fn no_sequence_of_times_panics(times in prop::collection::vec((0..4_u64, any::<i32>()), 0..200), now in any::<i64>()) {
        let mut cadence = Cadence::new(Some(I), None);
        let mut auto = Cadence::new(None, None);
        for (key, at) in times {
            cadence.observe(beat(A, key, i64::from(at)));
            auto.observe(beat(A, key, i64::from(at)));
        }
        let period = Period::until(now / 4);
        let _ = (cadence.report(&period), auto.report(&period));
    }
}
