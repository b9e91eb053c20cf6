//! Why a question got no weather, and the one sentence that tells the asker. Pure.

use crate::outgoing::{clean, cut};

/// The longest part in bytes of a city that a sentence repeats, so that the reason after it is never cut off.
const CITY_SHOWN: usize = 80;

/// What stood between a question and its answer. Texts in here come from the network and are not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 401 or 403: the key is wrong, disabled or used up.
    KeyRefused {
        /// The HTTP status.
        status: u16,
        /// The API's own words.
        message: Option<String>,
    },
    /// 400 or 404: mostly an unknown place.
    QuestionRefused {
        /// The HTTP status.
        status: u16,
        /// The API's own words.
        message: Option<String>,
    },
    /// 5xx: the service has a fault of its own.
    ServiceFault {
        /// The HTTP status.
        status: u16,
    },
    /// A status that `current.json` does not have, a redirection too: the key is not carried to another host.
    UnexpectedStatus {
        /// The HTTP status.
        status: u16,
    },
    /// No whole answer in time.
    TimedOut,
    /// The service's host refused the connection.
    ConnectionRefused,
    /// The connection ended in the middle of the answer.
    BrokenOff,
    /// The body is no JSON.
    NotJson,
    /// The body is JSON without a field that the bot tells, or with one of another type.
    FieldsWrong {
        /// Which field.
        detail: String,
    },
    /// Anything else between the bot and the service: name resolution, routing, TLS.
    Unreachable {
        /// The text of the system or of the client library.
        detail: String,
    },
}

impl Failure {
    /// The same failure with its foreign texts changed, to take out what must not be told.
    pub(crate) fn map_texts(self, change: impl Fn(&str) -> String) -> Self {
        let change_message = |message: Option<String>| message.map(|text| change(&text));
        match self {
            Self::KeyRefused { status, message } => Self::KeyRefused { status, message: change_message(message) },
            Self::QuestionRefused { status, message } => {
                Self::QuestionRefused { status, message: change_message(message) }
            }
            Self::FieldsWrong { detail } => Self::FieldsWrong { detail: change(&detail) },
            Self::Unreachable { detail } => Self::Unreachable { detail: change(&detail) },
            other => other,
        }
    }

    /// One sentence for the asker.
    pub(crate) fn sentence(&self, city: &str) -> String {
        let reason = match self {
            Self::KeyRefused { status, message } => {
                format!("the weather service refused the bot's API key ({})", status_and_words(*status, message))
            }
            Self::QuestionRefused { status, message } => {
                format!("the weather service refused the question ({})", status_and_words(*status, message))
            }
            Self::ServiceFault { status } => {
                format!("the weather service has a fault of its own ({status}), ask again later")
            }
            Self::UnexpectedStatus { status } => {
                format!("the weather service answered with an unexpected status ({status})")
            }
            Self::TimedOut => "the weather service did not answer in time, ask again later".to_owned(),
            Self::ConnectionRefused => "the weather service refused the connection, ask again later".to_owned(),
            Self::BrokenOff => "the weather service broke its answer off, ask again later".to_owned(),
            Self::NotJson => "the answer of the weather service is not JSON".to_owned(),
            Self::FieldsWrong { detail } => {
                format!("the answer of the weather service is not as expected ({})", words(detail))
            }
            Self::Unreachable { detail } => format!("the weather service cannot be reached ({})", words(detail)),
        };
        format!("No weather for {}: {reason}.", shown(city))
    }
}

/// The city as a sentence repeats it.
fn shown(city: &str) -> String {
    let city = clean(city);
    let beginning = cut(&city, CITY_SHOWN);
    if beginning.len() == city.len() { city } else { format!("{beginning}…") }
}

fn status_and_words(status: u16, message: &Option<String>) -> String {
    match message.as_deref().map(words) {
        Some(text) if !text.is_empty() => format!("{status}: {text}"),
        _ => status.to_string(),
    }
}

/// A foreign text without the full stop at its end: it stands inside a sentence.
fn words(text: &str) -> String {
    clean(text).trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_one_sentence_that_names_the_city() {
        let message = Some("No matching location found.".to_owned());
        for (failure, reason) in [
            (
                Failure::QuestionRefused { status: 400, message: message.clone() },
                "the weather service refused the question (400: No matching location found)",
            ),
            (Failure::QuestionRefused { status: 404, message: None }, "the weather service refused the question (404)"),
            (
                Failure::KeyRefused { status: 401, message: Some("\r\n".to_owned()) },
                "the weather service refused the bot's API key (401)",
            ),
            (
                Failure::ServiceFault { status: 503 },
                "the weather service has a fault of its own (503), ask again later",
            ),
            (Failure::UnexpectedStatus { status: 302 }, "the weather service answered with an unexpected status (302)"),
            (Failure::TimedOut, "the weather service did not answer in time, ask again later"),
            (Failure::ConnectionRefused, "the weather service refused the connection, ask again later"),
            (Failure::BrokenOff, "the weather service broke its answer off, ask again later"),
            (Failure::NotJson, "the answer of the weather service is not JSON"),
            (
                Failure::FieldsWrong { detail: "missing field `uv`".to_owned() },
                "the answer of the weather service is not as expected (missing field `uv`)",
            ),
            (
                Failure::Unreachable { detail: "no route".to_owned() },
                "the weather service cannot be reached (no route)",
            ),
        ] {
            assert_eq!(failure.sentence("Paris"), format!("No weather for Paris: {reason}."));
        }
    }

    #[test]
    fn a_long_city_leaves_room_for_the_reason() {
        let sentence = Failure::TimedOut.sentence(&"é".repeat(400));
        assert!(sentence.starts_with(&format!("No weather for {}…: ", "é".repeat(40))), "{sentence}");
        assert!(sentence.ends_with("later."), "{sentence}");
    }

    #[test]
    fn every_foreign_text_is_changed() {
        let secret = || "secret".to_owned();
        for failure in [
            Failure::KeyRefused { status: 401, message: Some(secret()) },
            Failure::QuestionRefused { status: 400, message: Some(secret()) },
            Failure::FieldsWrong { detail: secret() },
            Failure::Unreachable { detail: secret() },
        ] {
            let sentence = failure.map_texts(|_| "changed".to_owned()).sentence("Paris");
            assert!(sentence.contains("changed") && !sentence.contains("secret"), "{sentence}");
        }
    }
}
