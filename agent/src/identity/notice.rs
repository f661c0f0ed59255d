//! The notices that AWS gives as JSON, in words.

use serde_json::Value;

/// A body that is a JSON object, however it is spaced, as compact JSON of one line; `None` for anything else.
pub(super) fn compact(body: &str) -> Option<String> {
    let value: Value = serde_json::from_str(body.trim_start_matches('\u{feff}')).ok()?;
    let text = value.is_object().then(|| value.to_string())?;
    // What others read in headers and on terminals has no more than this.
    text.chars().all(|c| c.is_ascii_graphic() || c == ' ').then_some(text)
}

/// `spot/instance-action`: `{"action": "terminate", "time": "2026-11-27T17:43:52Z"}`. An action that isn't known is
/// one all the same. "Spot Instance interruption notices",
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>, read 2026-11-27.
pub(super) fn spot(json: &str) -> String {
    match (field(json, "action"), field(json, "time")) {
        (Some(action), Some(time)) => format!("EC2 will {action} this Spot instance at {time}"),
        (Some(action), None) => format!("EC2 will {action} this Spot instance"),
        _ => format!("Spot notice {json}"),
    }
}

/// `events/recommendations/rebalance`: `{"noticeTime": "2026-11-27T17:43:52Z"}`. "EC2 instance rebalance
/// recommendations", <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html>, read
/// 2026-11-27.
pub(super) fn rebalance(json: &str) -> String {
    match field(json, "noticeTime") {
        Some(time) => format!("EC2 recommends to rebalance since {time}: a Spot interruption is likelier"),
        None => format!("rebalance recommendation {json}"),
    }
}

fn field(json: &str, name: &str) -> Option<String> {
    let value: Value = serde_json::from_str(json).ok()?;
    value.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_the_same_however_it_is_spaced() {
        let plain = r#"{"action":"stop","time":"2026-11-27T17:43:52Z"}"#;
        for body in [
            plain.to_owned(),
            "{\n\t\"action\" : \"stop\",\r\n\t\"time\":\"2026-11-27T17:43:52Z\"\r\n}\r\n".to_owned(),
            format!("\u{feff}  {plain}  "),
        ] {
            assert_eq!(compact(&body).as_deref(), Some(plain), "{body:?}");
        }
        assert_eq!(spot(plain), "EC2 will stop this Spot instance at 2026-11-27T17:43:52Z");
        for broken in ["", "{\"action\":", "stop", "[]", "\"stop\"", "{\"action\":\"st\u{7f}op\"}"] {
            assert_eq!(compact(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn an_action_that_is_not_known_is_an_action() {
        assert_eq!(spot(r#"{"action":"evaporate"}"#), "EC2 will evaporate this Spot instance");
        assert_eq!(spot("{}"), "Spot notice {}");
        assert!(rebalance(r#"{"noticeTime":"T"}"#).contains("since T"));
        assert_eq!(rebalance(r#"{"x":1}"#), r#"rebalance recommendation {"x":1}"#);
    }
}
