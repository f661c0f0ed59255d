//! Which target gets a request: pure.

use super::state::State;

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// No target is registered: 503.
    Nowhere,
    /// To the target with this place in the list.
    To {
        place: usize,
        /// None is healthy, so all get requests.
        fail_open: bool,
    },
}

/// Routes the request whose turn it is at this node, round robin over the healthy targets ("Routing algorithms",
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html#modify-routing-algorithm>).
///
/// "If a target group contains only unhealthy registered targets, the load balancer routes requests to all those
/// targets, regardless of their health status"
/// (<https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html>). That a
/// target which is still `initial` counts as unhealthy in this is our model.
pub(super) fn route(states: &[State], turn: usize) -> Route {
    let pick = |wanted: &dyn Fn(&State) -> bool| {
        let places: Vec<usize> = (0..states.len()).filter(|place| wanted(&states[*place])).collect();
        places.get(turn.checked_rem(places.len())?).copied()
    };
    if let Some(place) = pick(&|state| *state == State::Healthy) {
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
        let place = |turn| match route(states, turn) {
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
        assert_eq!(route(&[Unhealthy], 5), Route::To { place: 0, fail_open: true });
    }

    #[test]
    fn without_targets_a_request_goes_nowhere() {
        assert_eq!(route(&[], 0), Route::Nowhere);
        assert_eq!(route(&[Draining], 3), Route::Nowhere);
    }
}
