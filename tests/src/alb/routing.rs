//! Which target gets a request: pure.

use super::settings::Group;
use super::state::State;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// No target is registered: 503.
    Nowhere,
    /// To the target with this place in the list.
    To {
        place: usize,
        /// Too few are healthy, so all get requests.
        fail_open: bool,
    },
}

/// Routes the request whose turn it is at this node, round robin over the healthy targets ("Routing algorithms",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#modify-routing-algorithm>).
///
/// "When the healthy targets in a zone fall below the threshold, the load balancer sends traffic to all targets that are
/// available to the load balancer node, including unhealthy targets" ("Target group health",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health.html>, 2026-11-27). That a
/// target which is still `initial` counts as unhealthy in this is our model. `weights` is each target's, by slow start and
/// anomaly mitigation; equal ones take turns.
pub(super) fn route(states: &[State], weights: &[f64], group: &Group, turn: usize) -> Route {
    let pick = |wanted: &dyn Fn(&State) -> bool| {
        let places: Vec<usize> = (0..states.len()).filter(|place| wanted(&states[*place])).collect();
        let weight = |place: &usize| weights.get(*place).copied().unwrap_or(1.0);
        if places.iter().all(|place| weight(place) >= 1.0) {
            return places.get(turn.checked_rem(places.len())?).copied();
        }
        // The golden ratio spreads the turns evenly over the weights.
        let sum: f64 = places.iter().map(weight).sum();
        let mut left = (turn as f64 * 0.618_033_988_749_895).fract() * sum;
        places.iter().copied().find(|place| {
            left -= weight(place);
            left < 0.0
        })
    };
    let count = |wanted: State| states.iter().filter(|state| **state == wanted).count();
    let registered = states.len() - count(State::Draining);
    if !group.fails_open(count(State::Healthy), registered)
        && let Some(place) = pick(&|state| *state == State::Healthy)
    {
        return Route::To { place, fail_open: false };
    }
    match pick(&|state| *state != State::Draining) {
        Some(place) => Route::To { place, fail_open: true },
        None => Route::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Draining, Healthy, Initial, Unhealthy};
    use super::*;

    fn places(states: &[State]) -> Vec<usize> {
        let place = |turn| match route(states, &[], &Group::default(), turn) {
            Route::To { place, .. } => place,
            Route::Nowhere => usize::MAX,
        };
        (0..4).map(place).collect()
    }

    #[test]
    fn healthy_targets_take_turns_and_others_get_nothing() {
        assert_eq!(places(&[Healthy, Unhealthy, Healthy, Initial]), [0, 2, 0, 2]);
    }

    #[test]
    fn with_no_healthy_target_all_take_turns() {
        assert_eq!(places(&[Unhealthy, Draining, Initial]), [0, 2, 0, 2]);
        let open = Route::To { place: 0, fail_open: true };
        assert_eq!(route(&[Unhealthy], &[], &Group::default(), 5), open);
    }

    #[test]
    fn below_the_minimum_all_take_turns_whatever_their_health() {
        let count = Group { routing_min: 2, ..Group::default() };
        let percentage = Group { routing_min_percentage: Some(60), ..Group::default() };
        for group in [count, percentage] {
            let to = |turn| route(&[Unhealthy, Healthy], &[], &group, turn);
            assert_eq!([to(0), to(1)], [0, 1].map(|place| Route::To { place, fail_open: true }));
        }
        let half = Group { routing_min_percentage: Some(50), ..Group::default() };
        assert_eq!(route(&[Unhealthy, Healthy], &[], &half, 0), Route::To { place: 1, fail_open: false });
    }

    #[test]
    fn a_light_target_gets_its_share() {
        let light = |turn| route(&[Healthy; 3], &[0.1, 1.0, 1.0], &Group::default(), turn);
        let got = (0..2100).filter(|turn| matches!(light(*turn), Route::To { place: 0, .. })).count();
        assert!((90..110).contains(&got), "{got} of 2100, 100 are its share");
    }

    #[test]
    fn without_targets_a_request_goes_nowhere() {
        assert_eq!(route(&[], &[], &Group::default(), 0), Route::Nowhere);
        assert_eq!(route(&[Draining], &[], &Group::default(), 3), Route::Nowhere);
    }
}
