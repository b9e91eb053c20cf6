//! What the weather API answered, read: a status and a body become a report or a failure. Pure. The shapes are those of
//! <https://www.weatherapi.com/docs/>, `current.json` and "API Error Codes".

use serde::Deserialize;
use serde_json::Number;

use crate::failure::Failure;
use crate::report::Report;

/// The body of a good answer; fields that the bot does not tell are passed over.
#[derive(Deserialize)]
struct Body {
    location: Location,
    current: Current,
}

#[derive(Deserialize)]
struct Location {
    name: String,
    country: String,
}

#[derive(Deserialize)]
struct Current {
    temp_c: Number,
    condition: Condition,
    wind_kph: Number,
    humidity: Number,
    uv: Number,
}

#[derive(Deserialize)]
struct Condition {
    text: String,
}

/// The body of an error: `{"error":{"code":1006,"message":"No matching location found."}}`.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: String,
}

/// Reads an HTTP status and a whole body. A body that holds no message of the API does not hide the status.
pub(crate) fn read(status: u16, body: &[u8]) -> Result<Report, Failure> {
    match status {
        200 => report(body),
        401 | 403 => Err(Failure::KeyRefused { status, message: message(body) }),
        400 | 404 => Err(Failure::QuestionRefused { status, message: message(body) }),
        500..=599 => Err(Failure::ServiceFault { status }),
        _ => Err(Failure::UnexpectedStatus { status }),
    }
}

fn report(body: &[u8]) -> Result<Report, Failure> {
    let Body { location, current } = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() { Failure::FieldsWrong { detail: error.to_string() } } else { Failure::NotJson }
    })?;
    Ok(Report {
        name: location.name,
        country: location.country,
        condition: current.condition.text,
        celsius: current.temp_c,
        wind_kph: current.wind_kph,
        humidity: current.humidity,
        uv: current.uv,
    })
}

fn message(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"location":{"name":"Paris","region":"Ile-de-France","country":"France","lat":48.87},
        "current":{"temp_c":18.0,"temp_f":64.4,"condition":{"text":"Partly cloudy","code":1003},
        "wind_kph":12.2,"humidity":63,"uv":4.0}}"#;

    #[test]
    fn a_good_answer_is_read_and_other_fields_are_passed_over() {
        let report = read(200, GOOD.as_bytes()).unwrap();
        assert_eq!((report.name.as_str(), report.country.as_str()), ("Paris", "France"));
        assert_eq!(report.condition, "Partly cloudy");
        let numbers = [report.celsius, report.wind_kph, report.humidity, report.uv].map(|number| number.to_string());
        assert_eq!(numbers, ["18.0", "12.2", "63", "4.0"]);
    }

    #[test]
    fn each_missing_or_mistyped_field_is_named() {
        for field in ["name", "country", "temp_c", "text", "wind_kph", "humidity", "uv"] {
            let body = GOOD.replace(&format!("\"{field}\""), "\"other\"");
            let Err(Failure::FieldsWrong { detail }) = read(200, body.as_bytes()) else {
                panic!("{field} is not missed")
            };
            assert!(detail.contains(&format!("missing field `{field}`")), "{detail}");
        }
        let body = GOOD.replace("18.0", "\"warm\"");
        assert!(matches!(read(200, body.as_bytes()), Err(Failure::FieldsWrong { .. })));
    }

    #[test]
    fn garbage_and_half_a_body_are_not_json() {
        for body in ["", "<html>", &GOOD[..40]] {
            assert_eq!(read(200, body.as_bytes()), Err(Failure::NotJson), "{body}");
        }
    }

    #[test]
    fn an_error_carries_the_message_of_the_api_when_there_is_one() {
        let body = br#"{"error":{"code":1006,"message":"No matching location found."}}"#;
        let message = Some("No matching location found.".to_owned());
        for status in [400, 404] {
            assert_eq!(read(status, body), Err(Failure::QuestionRefused { status, message: message.clone() }));
        }
        for status in [401, 403] {
            assert_eq!(read(status, body), Err(Failure::KeyRefused { status, message: message.clone() }));
            assert_eq!(read(status, b"<html>"), Err(Failure::KeyRefused { status, message: None }));
        }
    }

    #[test]
    fn other_statuses_are_distinguished() {
        assert_eq!(read(500, GOOD.as_bytes()), Err(Failure::ServiceFault { status: 500 }));
        assert_eq!(read(503, b""), Err(Failure::ServiceFault { status: 503 }));
        assert_eq!(read(302, b""), Err(Failure::UnexpectedStatus { status: 302 }));
        assert_eq!(read(204, b""), Err(Failure::UnexpectedStatus { status: 204 }));
    }
}
