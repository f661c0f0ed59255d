//! Questions and their answers. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It can't be told.
    Unknown,
}

impl Answer {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "cannot tell",
        }
    }
}

/// One thing that counted, with an answer of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reason {
    /// What it is about: `outage`, `drain`, `back_in_use`, …
    pub about: String,
    /// What it says.
    pub answer: Answer,
    /// In words.
    pub text: String,
}

/// An answer, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// Each thing that counted, in words.
    pub why: Vec<String>,
    /// The same, each with its own answer.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// What may help where the answer is no.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { answer: Answer::Yes, why: Vec::new(), reasons: Vec::new(), hint: None }
    }
}

impl Verdict {
    /// Adds a reason: no wins over unknown, that over yes.
    pub fn say(&mut self, about: &str, answer: Answer, why: impl Into<String>) {
        self.answer = match (self.answer, answer) {
            (Answer::No, _) | (_, Answer::No) => Answer::No,
            (Answer::Unknown, _) | (_, Answer::Unknown) => Answer::Unknown,
            _ => Answer::Yes,
        };
        let text: String = why.into();
        self.why.push(text.clone());
        self.reasons.push(Reason { about: about.to_owned(), answer, text });
    }
}

/// Yes where it holds.
pub fn yes(held: bool) -> Answer {
    if held { Answer::Yes } else { Answer::No }
}

/// A time as people write it: `12.9 s`, `0.25 s`, `4 min 5 s`, `2 h 3 min`.
pub fn secs(duration: Duration) -> String {
    let tenths = duration.as_millis().saturating_add(50) / 100;
    match tenths {
        _ if duration < Duration::from_millis(950) && duration > Duration::ZERO => {
            format!("{:.2} s", duration.as_secs_f64())
        }
        0..1200 => format!("{}.{} s", tenths / 10, tenths % 10),
        1200..36_000 => {
            let secs = duration.as_secs_f64().round() as u64;
            format!("{} min {} s", secs / 60, secs % 60)
        }
        _ => {
            let minutes = (duration.as_secs_f64() / 60.0).round() as u64;
            format!("{} h {} min", minutes / 60, minutes % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wins_over_unknown_and_that_over_yes() {
        let mut verdict = Verdict::default();
        for (answer, sum) in [
            (Answer::Yes, Answer::Yes),
            (Answer::Unknown, Answer::Unknown),
            (Answer::Yes, Answer::Unknown),
            (Answer::No, Answer::No),
            (Answer::Unknown, Answer::No),
        ] {
            verdict.say("x", answer, "because");
            assert_eq!(verdict.answer, sum);
        }
        assert_eq!(verdict.reasons[2].answer, Answer::Yes);
    }

    #[test]
    fn times_are_written_as_people_do() {
        let of = |ms| secs(Duration::from_millis(ms));
        assert_eq!(
            (of(0), of(250), of(949), of(12_940)),
            ("0.0 s".into(), "0.25 s".into(), "0.95 s".into(), "12.9 s".into())
        );
        assert_eq!(
            (of(119_900), of(245_000), of(7_380_000)),
            ("119.9 s".into(), "4 min 5 s".into(), "2 h 3 min".into())
        );
    }
}
