//! What a request is answered with: method, path and query become a status and a JSON body. Pure. The shapes are those
//! of <https://www.weatherapi.com/docs/>, `current.json` and "API Error Codes".

use serde_json::{Value, json};

use crate::place::{Place, find};

/// The only path that is served.
const PATH: &str = "/v1/current.json";

/// The longest beginning of a city in bytes that the journal tells.
const CITY_SHOWN: usize = 80;

/// An answer, ready to be sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The JSON body.
    pub(crate) body: Value,
    /// What was asked for, in the words of the journal. The key is not among them.
    pub(crate) subject: String,
}

/// Answers one request. `accepted` is the only good key; without one any key is good.
pub(crate) fn answer(method: &str, path: &str, query: &str, accepted: Option<&str>) -> Answer {
    if path != PATH {
        return error(404, 1005, "API URL is invalid.", "an unknown path".to_owned());
    }
    if method != "GET" {
        return error(405, 9999, "Only GET is served.", "something by another method than GET".to_owned());
    }
    let pair = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(name, value)| name == wanted && !value.trim().is_empty()).map(|(_, value)| value)
    };
    let city = pair("q");
    let subject = city.as_deref().map_or_else(|| "no city".to_owned(), shown);
    // The key comes first: a stranger learns nothing about the places.
    match pair("key") {
        None => return error(401, 1002, "API key is not provided.", subject),
        Some(key) if accepted.is_some_and(|accepted| accepted != key) => {
            return error(401, 2006, "API key provided is invalid.", subject);
        }
        Some(_) => {}
    }
    let Some(city) = city else { return error(400, 1003, "Parameter q is missing.", subject) };
    match find(&city) {
        Some(place) => Answer { status: 200, body: weather(place), subject },
        None => error(400, 1006, "No matching location found.", subject),
    }
}

fn error(status: u16, code: u16, message: &str, subject: String) -> Answer {
    Answer { status, body: json!({ "error": { "code": code, "message": message } }), subject }
}

fn weather(place: &Place) -> Value {
    json!({
        "location": {
            "name": place.name,
            "region": place.region,
            "country": place.country,
            "lat": place.latitude,
            "lon": place.longitude,
            "tz_id": place.time_zone,
        },
        "current": {
            "temp_c": place.celsius,
            "condition": { "text": place.condition },
            "wind_kph": place.wind_kph,
            "humidity": place.humidity,
            "uv": place.uv,
        },
    })
}

/// The city as the journal tells it.
fn shown(city: &str) -> String {
    let beginning = &city[..city.floor_char_boundary(CITY_SHOWN)];
    if beginning.len() == city.len() { city.to_owned() } else { format!("{beginning}…") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str, accepted: Option<&str>) -> (u16, Value, String) {
        let Answer { status, body, subject } = answer("GET", PATH, query, accepted);
        (status, body, subject)
    }

    fn refused(query: &str, accepted: Option<&str>) -> (u16, u64) {
        let (status, body, _) = ask(query, accepted);
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.ends_with('.')), "{body}");
        (status, body["error"]["code"].as_u64().unwrap())
    }

    #[test]
    fn a_known_city_has_weather_in_the_shape_of_the_api() {
        let (status, body, subject) = ask("key=0a1b&q=Paris", None);
        assert_eq!((status, subject.as_str()), (200, "Paris"));
        assert_eq!(body["location"]["name"], "Paris");
        assert_eq!(body["location"]["country"], "France");
        assert_eq!(body["location"]["region"], "Ile-de-France");
        let current = r#"{"condition":{"text":"Partly cloudy"},"humidity":63,"temp_c":18.0,"uv":4.0,"wind_kph":12.2}"#;
        assert_eq!(body["current"].to_string(), current);
    }

    #[test]
    fn a_city_is_decoded() {
        for query in ["key=k&q=New%20York", "q=new+york&key=k"] {
            assert_eq!(ask(query, None).1["location"]["name"], "New York", "{query}");
        }
        assert_eq!(ask("key=k&q=s%C3%A3o%20paulo", None).1["location"]["name"], "São Paulo");
    }

    #[test]
    fn each_refusal_has_the_status_and_the_code_of_the_api() {
        assert_eq!(refused("key=k&q=Atlantis", None), (400, 1006));
        assert_eq!(refused("key=k", None), (400, 1003));
        assert_eq!(refused("key=k&q=", None), (400, 1003));
        assert_eq!(refused("q=Paris", None), (401, 1002));
        assert_eq!(refused("key=&q=Paris", None), (401, 1002));
        assert_eq!(refused("", Some("0a1b")), (401, 1002));
        assert_eq!(refused("key=wrong&q=Paris", Some("0a1b")), (401, 2006));
        assert_eq!(refused("key=wrong&q=Atlantis", Some("0a1b")), (401, 2006));
    }

    #[test]
    fn the_accepted_key_is_compared_decoded() {
        assert_eq!(ask("key=0a1b%262c&q=Paris", Some("0a1b&2c")).0, 200);
    }

    #[test]
    fn another_path_or_method_is_refused() {
        for path in ["/", "/v1/forecast.json", "/v1/current.json/", "/V1/CURRENT.JSON"] {
            assert_eq!(answer("GET", path, "key=k&q=Paris", None).status, 404, "{path}");
        }
        for method in ["POST", "HEAD"] {
            assert_eq!(answer(method, PATH, "key=k&q=Paris", None).status, 405, "{method}");
        }
    }

    #[test]
    fn the_subject_is_short_and_never_the_key() {
        assert_eq!(ask("key=0a1b", None).2, "no city");
        assert_eq!(answer("GET", "/0a1b", "key=0a1b", None).subject, "an unknown path");
        let subject = ask(&format!("key=0a1b&q={}", "%C3%A9".repeat(100)), None).2;
        assert_eq!(subject, format!("{}…", "é".repeat(40)));
    }
}
