//! The load over time: constant, with a ramp, or a profile; straight lines between points.

use std::time::Duration;

/// More points than a day has seconds are no profile.
const MAX_POINTS: usize = 86_400;
/// A profile that ends before this, in seconds, has no length.
const SHORTEST: f64 = 0.001;

/// A share between 0 and 1 as a function of the seconds since the start. Before the first point it is the first
/// value, after the last one the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    points: Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    at: f64,
    share: f64,
    /// The area under the curve from zero to here.
    area: f64,
}

/// Why a profile can't be followed: one line of it, by number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ProfileError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Curve {
    /// The same share all the time.
    pub fn constant(share: f64) -> Self {
        Self::through([(0.0, share)])
    }

    /// From nothing to `share` within `ramp`, constant from there on.
    pub fn ramp(share: f64, ramp: Duration) -> Self {
        if ramp.is_zero() {
            Self::constant(share)
        } else {
            Self::through([(0.0, 0.0), (ramp.as_secs_f64(), share)])
        }
    }

    fn through(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut curve = Self { points: Vec::new() };
        for (at, share) in points {
            let area = curve
                .points
                .last()
                .map_or(at * share, |last| last.area + (at - last.at) * f64::midpoint(share, last.share));
            curve.points.push(Point { at, share, area });
        }
        curve
    }

    /// The same curve with all its shares times `by`.
    pub fn scaled(&self, by: f64) -> Self {
        Self::through(self.points.iter().map(|point| (point.at, point.share * by)))
    }

    /// Reads lines of `seconds percent`; `#` starts a comment. The same second twice is a jump.
    ///
    /// # Errors
    /// The first line that isn't one.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        let mut last_line = 1;
        // Editors of some systems begin a text with a byte order mark.
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let wrong = |message: String| ProfileError { line: number + 1, message };
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            last_line = number + 1;
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let &[at, percent] = fields.as_slice() else {
                return Err(wrong(format!(
                    "\"{}\": write \"seconds percent\", such as \"60 80\"",
                    shown(line)
                )));
            };
            let at = number_in(at, 0.0, 86_400.0)
                .ok_or_else(|| wrong(format!("\"{}\": seconds go from 0 to 86400 (a day)", shown(at))))?;
            let percent = number_in(percent.strip_suffix('%').unwrap_or(percent), 0.0, 100.0)
                .ok_or_else(|| wrong(format!("\"{}\": the percentage goes from 0 to 100", shown(percent))))?;
            if points.last().is_some_and(|(before, _)| at < *before) {
                return Err(wrong(format!("second {at} stands after a later one")));
            }
            if points.len() == MAX_POINTS {
                return Err(wrong(format!("more than {MAX_POINTS} points")));
            }
            points.push((at, percent / 100.0));
        }
        match points.last() {
            Some((end, _)) if *end >= SHORTEST => Ok(Self::through(points)),
            Some(_) => Err(ProfileError {
                line: last_line,
                message: "the profile ends where it starts: it needs a line with seconds above 0".to_owned(),
            }),
            None => Err(ProfileError {
                line: last_line,
                message: "no line of \"seconds percent\", such as \"60 80\"".to_owned(),
            }),
        }
    }

    /// Where the last point stands.
    pub fn end(&self) -> Duration {
        Duration::from_secs_f64(self.points.last().map_or(0.0, |p| p.at))
    }

    /// The largest share.
    pub fn peak(&self) -> f64 {
        self.points.iter().map(|p| p.share).fold(0.0, f64::max)
    }

    /// Whether it is the same share all the time.
    pub fn is_constant(&self) -> bool {
        self.points.windows(2).all(|two| matches!(two, [a, b] if a.share == b.share))
    }

    /// The share `t` seconds after the start.
    pub fn at(&self, t: f64) -> f64 {
        let (before, after) = self.around(t);
        match (before, after) {
            (Some(a), Some(b)) => a.share + (b.share - a.share) * (t - a.at) / (b.at - a.at),
            (Some(one), None) | (None, Some(one)) => one.share,
            (None, None) => 0.0,
        }
    }

    /// The area under the curve in the first `t` seconds: the CPU seconds due by then.
    pub fn area(&self, t: f64) -> f64 {
        match self.around(t) {
            (Some(a), _) => a.area + (t - a.at) * f64::midpoint(a.share, self.at(t)),
            (None, Some(first)) => first.share * t,
            (None, None) => 0.0,
        }
    }

    /// The mean share over the first `t` seconds.
    pub fn mean(&self, t: f64) -> f64 {
        if t > 0.0 { self.area(t) / t } else { self.at(0.0) }
    }

    fn around(&self, t: f64) -> (Option<&Point>, Option<&Point>) {
        let after = self.points.partition_point(|p| p.at <= t);
        (after.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(after))
    }
}

/// A plain number: no sign, no exponent, no "inf".
fn number_in(text: &str, from: f64, to: f64) -> Option<f64> {
    if !text.bytes().all(|c| c.is_ascii_digit() || c == b'.') {
        return None;
    }
    text.parse().ok().filter(|n| (from..=to).contains(n))
}

/// Enough of a wrong text to find it.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_ramp_rises_to_its_share_and_stays() {
        let curve = Curve::ramp(0.8, Duration::from_secs(10));
        assert_eq!([0.0, 5.0, 10.0, 60.0].map(|t| curve.at(t)), [0.0, 0.4, 0.8, 0.8]);
        assert!((curve.area(20.0) - 12.0).abs() < 1e-9);
        assert!((curve.mean(20.0) - 0.6).abs() < 1e-9);
    }

    #[test]
    fn a_profile_is_linear_between_its_points_and_may_jump() {
        let curve = Curve::parse("# a morning\n10 20\n20 40%\n\n20 90 # the rush\n30 90\n").unwrap();
        assert!((curve.at(0.0) - 0.2).abs() < 1e-9, "before the first point its value holds");
        assert!((curve.at(15.0) - 0.3).abs() < 1e-9);
        assert!((curve.at(20.0) - 0.9).abs() < 1e-9);
        assert!((curve.area(30.0) - (2.0 + 3.0 + 9.0)).abs() < 1e-9);
        assert_eq!((curve.end(), curve.peak()), (Duration::from_secs(30), 0.9));
    }

    #[test]
    fn a_bad_line_is_told_by_its_number() {
        for (text, message) in [
            ("0 10\nsoon 20\n", "line 2: \"soon\": seconds go from 0 to 86400 (a day)"),
            ("0 10\n\n5\n", "line 3: \"5\": write \"seconds percent\", such as \"60 80\""),
            ("0 10\n5 101\n", "line 2: \"101\": the percentage goes from 0 to 100"),
            ("0 10\n5 nan\n", "line 2: \"nan\": the percentage goes from 0 to 100"),
            ("9 10\n5 10\n", "line 2: second 5 stands after a later one"),
            ("", "line 1: no line of \"seconds percent\", such as \"60 80\""),
            ("# nothing\n\n", "line 1: no line of \"seconds percent\", such as \"60 80\""),
            ("1e-12 50\n", "line 1: \"1e-12\": seconds go from 0 to 86400 (a day)"),
            (
                "0.0000001 50\n",
                "line 1: the profile ends where it starts: it needs a line with seconds above 0",
            ),
            ("\u{feff}0 10\n5 x\n", "line 2: \"x\": the percentage goes from 0 to 100"),
            (
                "0 10\n0 50\n\n# end\n",
                "line 2: the profile ends where it starts: it needs a line with seconds above 0",
            ),
            ("0 10\n5 1e1\n", "line 2: \"1e1\": the percentage goes from 0 to 100"),
            ("0 50\n", "line 1: the profile ends where it starts: it needs a line with seconds above 0"),
        ] {
            assert_eq!(Curve::parse(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Curve::parse(&text);
        }

        #[test]
        fn the_area_is_the_sum_of_the_values(
            points in proptest::collection::vec((0_u32..100, 0_u32..=100), 1..8),
            end in 1.0..120.0_f64,
        ) {
            let mut points = points;
            points.sort_unstable_by_key(|p| p.0);
            let text: String = points.iter().map(|(at, pct)| format!("{at} {pct}\n")).collect();
            if let Ok(curve) = Curve::parse(&text) {
                let steps = 20_000;
                let dt = end / f64::from(steps);
                let sum: f64 = (0..steps).map(|i| curve.at((f64::from(i) + 0.5) * dt) * dt).sum();
                prop_assert!((curve.area(end) - sum).abs() < 0.02, "{} {}", curve.area(end), sum);
            }
        }
    }
}
