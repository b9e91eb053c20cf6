//! What is answered and what is told in the journal.

use nix::sys::signal::Signal;

use crate::service::Service;

const KEY: &str = "0a1b&2c3d";

#[test]
fn every_city_is_answered_in_both_families_and_logged_with_its_client() {
    for (listen, peer) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let mut service = Service::start(&[listen]);
        for (city, name, country, celsius) in [
            ("Paris", "Paris", "France", "18.0"),
            ("LONDON", "London", "United Kingdom", "11.3"),
            ("new york", "New York", "United States of America", "22.8"),
            ("são paulo", "São Paulo", "Brazil", "27.1"),
            ("Tokyo", "Tokyo", "Japan", "16.4"),
            ("Berlin", "Berlin", "Germany", "-2.5"),
        ] {
            let (status, body) = service.ask(&[("key", KEY), ("q", city)]);
            assert_eq!(status, 200, "{city}: {body}");
            assert_eq!(body["location"]["name"], name);
            assert_eq!(body["location"]["country"], country);
            assert_eq!(body["current"]["temp_c"].to_string(), celsius);
            assert!(body["current"]["condition"]["text"].is_string(), "{body}");
            for field in ["wind_kph", "humidity", "uv"] {
                assert!(body["current"][field].is_number(), "{field} of {body}");
            }
            assert_eq!(service.next_line(), format!("weather-service: {peer} asked for {city}: 200"));
        }
    }
}

#[test]
fn each_refusal_has_the_status_and_the_code_of_the_api() {
    let mut service = Service::start(&["127.0.0.1:0", "--key", KEY]);
    for (pairs, status, code, told) in [
        (&[("key", KEY), ("q", "Atlantis")][..], 400, 1006, "asked for Atlantis: 400"),
        (&[("key", KEY)], 400, 1003, "asked for no city: 400"),
        (&[("key", KEY), ("q", "")], 400, 1003, "asked for no city: 400"),
        (&[("q", "Paris")], 401, 1002, "asked for Paris: 401"),
        (&[("key", ""), ("q", "Paris")], 401, 1002, "asked for Paris: 401"),
        (&[("key", "wrong"), ("q", "Paris")], 401, 2006, "asked for Paris: 401"),
    ] {
        let (answered, body) = service.ask(pairs);
        assert_eq!((answered, body["error"]["code"].as_u64()), (status, Some(code)), "{pairs:?}");
        assert_eq!(service.next_line(), format!("weather-service: 127.0.0.1 {told}"));
    }
    assert_eq!(service.ask(&[("key", KEY), ("q", "Atlantis")]).1["error"]["message"], "No matching location found.");
    assert_eq!(service.ask(&[("key", KEY), ("q", "Paris")]).0, 200);
    assert_eq!(service.ask_path("/v1/forecast.json", &[("key", KEY), ("q", "Paris")]).0, 404);
}

#[test]
fn no_key_is_written_to_the_journal() {
    let service = Service::start(&["127.0.0.1:0", "--key", KEY]);
    for key in [KEY, "5e6f"] {
        service.ask(&[("key", key), ("q", "Paris")]);
        service.ask(&[("key", key)]);
        service.ask_path(&format!("/{}", key.replace('&', "%26")), &[("key", key)]);
    }
    let (_, stderr) = service.stop(Signal::SIGTERM);
    assert_eq!(stderr.matches("asked for").count(), 6, "{stderr}");
    for secret in ["0a1b", "2c3d", "5e6f"] {
        assert!(!stderr.contains(secret), "{secret} is told:\n{stderr}");
    }
}

#[test]
fn a_city_with_line_ends_forges_no_line_in_the_journal() {
    let mut service = Service::start(&["127.0.0.1:0"]);
    let forged = "x: 200\r\nweather-service: 10.0.0.1 asked for Paris\u{1b}[31m";
    assert_eq!(service.ask(&[("key", KEY), ("q", forged)]).0, 400);
    let told = "x: 200weather-service: 10.0.0.1 asked for Paris[31m: 400";
    assert_eq!(service.next_line(), format!("weather-service: 127.0.0.1 asked for {told}"));
}
