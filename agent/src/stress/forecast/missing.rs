//! How CloudWatch evaluates an alarm where datapoints are missing: "Configuring how CloudWatch alarms treat missing
//! data" (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html>, read 2026-11),
//! for alarms that treat missing data as `missing`, the default, which target tracking's alarms have.

/// What an alarm says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Above the threshold.
    Alarm,
    /// Not.
    Ok,
    /// Nothing to tell from.
    InsufficientData,
}

/// The periods that CloudWatch looks back over, in the examples of that page, for an alarm of 3 out of 3.
pub const EVALUATION_RANGE: usize = 5;

/// The state of an alarm of `needed` out of `needed` datapoints, from the evaluation range, the oldest first: `None` is
/// missing, `Some(true)` breaching.
///
/// The page's rules: where there are enough datapoints, the most recent count. Where there are fewer, the alarm goes to
/// ALARM once the oldest breaching datapoint is at least `needed` periods old and all that are more recent are breaching
/// or missing ("Avoiding premature transitions to alarm state"); else one that isn't breaching makes it OK.
pub fn evaluate(range: &[Option<bool>], needed: usize) -> State {
    let real: Vec<(usize, bool)> =
        range.iter().enumerate().filter_map(|(place, point)| Some((place, (*point)?))).collect();
    if real.is_empty() {
        return State::InsufficientData;
    }
    if real.len() >= needed {
        let breaching = real.iter().rev().take(needed).all(|(_, breaching)| *breaching);
        return if breaching { State::Alarm } else { State::Ok };
    }
    let since = real.iter().rev().take_while(|(_, breaching)| *breaching).last();
    match since {
        Some((place, _)) if range.len() - place >= needed => State::Alarm,
        _ => State::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(row: &str) -> State {
        let range: Vec<Option<bool>> = row
            .split(' ')
            .map(|point| match point {
                "X" => Some(true),
                "0" => Some(false),
                _ => None,
            })
            .collect();
        evaluate(&range, 3)
    }

    /// The table of 3 out of 3, column MISSING.
    #[test]
    fn the_documented_table_is_what_comes_out() {
        assert_eq!(state("0 - X - X"), State::Ok);
        assert_eq!(state("0 - - - -"), State::Ok);
        assert_eq!(state("- - - - -"), State::InsufficientData);
        assert_eq!(state("0 X X - X"), State::Alarm);
        assert_eq!(state("- - X - -"), State::Alarm);
    }

    #[test]
    fn a_lone_breaching_datapoint_is_waited_for_until_it_is_old_enough() {
        assert_eq!(
            [state("- - - - X"), state("- - - X -"), state("- - X - -")],
            [State::Ok, State::Ok, State::Alarm]
        );
        assert_eq!(state("0 - - X -"), State::Ok);
        assert_eq!(state("0 - X - -"), State::Alarm);
        assert_eq!(state("X - - 0 -"), State::Ok);
    }
}
