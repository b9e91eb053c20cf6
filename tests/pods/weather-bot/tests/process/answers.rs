//! Questions that get the weather: the nine lines, the encoding of cities, foreign values, several askers at once.

use crate::bot::{Bot, KEY};
use crate::http_service::{HttpService, PARIS, Reply};
use crate::irc_peer::IrcPeer;

const NINE_LINES: [&str; 9] = [
    "------------------------------",
    "Weather Information:",
    "Location: Paris, France",
    "Condition: Partly cloudy",
    "Temperature: 18.0°C",
    "Wind Speed: 12.2 kph",
    "Humidity: 63%",
    "UV Index: 4.0",
    "------------------------------",
];

#[test]
fn a_question_is_answered_with_nine_lines_however_it_is_spelled() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    for question in ["WEATHER alice :Paris", "WEATHER alice Paris", ":irc.example WEATHER alice :Paris"] {
        server.send(question);
        assert_eq!(NINE_LINES.map(|_| server.read_answer()), NINE_LINES, "{question}");
        let asked = service.asked();
        assert_eq!(asked.path, "/v1/current.json");
        assert_eq!(
            asked.query,
            [("key", KEY), ("q", "Paris")].map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
    server.assert_nothing_but_pong();
}

#[test]
fn a_server_on_ipv6_is_served_too() {
    let (peer, service) = (IrcPeer::listen_on("[::1]:0"), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &[]);
    peer.register().assert_served();
    assert_eq!(bot.wait_for("connected"), format!("weather-bot: connected to {}", peer.address));
}

#[test]
fn a_server_with_a_dns_name_is_served_too() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let port = peer.address.rsplit_once(':').unwrap().1;
    let _bot = Bot::start(&format!("localhost:{port}"), &service.url, &[]);
    peer.register().assert_served();
}

#[test]
fn every_city_arrives_at_the_service_as_it_was_asked() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    for city in [
        "New York",
        "São Paulo",
        "Zürich & Köln",
        "a&key=other&q=London",
        "100% #1 + 1 = 2?",
        "%41%zz",
        "Paris\r, France/../x\\\"'<>",
        "東京 ☂",
        "48.85,2.35",
        ":colon",
    ] {
        server.ask(city);
        (0..8).for_each(|_| drop(server.read_answer()));
        let query = service.asked().query;
        assert_eq!(query[0], ("key".to_owned(), KEY.to_owned()));
        assert_eq!(query[1..], [("q".to_owned(), city.to_owned())]);
    }
}

#[test]
fn line_ends_in_the_values_of_the_api_inject_nothing() {
    let (peer, service) = (
        IrcPeer::listen(),
        HttpService::listen(|city| match city {
            "refused" => Reply::Whole(
                400,
                r#"{"error":{"code":1006,"message":"No\r\nQUIT :injected\u0000\u0001 such\u0085 place."}}"#.to_owned(),
            ),
            _ => Reply::Whole(
                200,
                PARIS
                    .replace("\"Paris\"", r#""Pa\r\nQUIT :injected\r\nris\u0000""#)
                    .replace("Partly", r"Partly\n\u001b[31m\u007f"),
            ),
        }),
    );
    let mut bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    server.ask("Paris");
    let lines: Vec<String> = (0..8).map(|_| server.read_answer()).collect();
    assert_eq!(lines[1], "Location: PaQUIT :injectedris, France");
    assert_eq!(lines[2], "Condition: Partly[31m cloudy");
    server.assert_nothing_but_pong();
    let sentence = server.ask("refused");
    assert_eq!(
        sentence,
        "No weather for refused: the weather service refused the question (400: NoQUIT :injected such place)."
    );
    server.assert_nothing_but_pong();
    assert!(bot.wait_for("refused").contains(&sentence), "the journal has it in one line");
}

#[test]
fn a_long_value_is_cut_at_a_character_and_stays_within_one_line() {
    let (peer, service) = (
        IrcPeer::listen(),
        HttpService::listen(|city| {
            let long = city.chars().next().unwrap().to_string().repeat(2000);
            Reply::Whole(200, PARIS.replace("Partly cloudy", &long))
        }),
    );
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    for character in ["x", "é", "☂", "😀"] {
        server.ask(character);
        let lines: Vec<String> = (0..8).map(|_| server.read_raw()).collect();
        for line in &lines {
            assert!(line.len() <= 512 && line.ends_with("\r\n"), "{} bytes: {line}", line.len());
        }
        let text = lines[2].trim_end().strip_prefix("PRIVMSG alice :Condition: ").unwrap();
        assert_eq!(text, character.repeat(text.chars().count()));
        assert!(text.len() > 350, "{} bytes are left", text.len());
    }
}

#[test]
fn a_question_without_a_city_is_answered_without_the_service() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    for question in ["WEATHER alice :", "WEATHER alice", "WEATHER alice :  "] {
        server.send(question);
        assert_eq!(server.read_answer(), "The question names no city, ask again with one, as in: Paris.");
    }
    server.send("WEATHER #podwire :Paris");
    server.send("WEATHER");
    server.assert_nothing_but_pong();
    assert!(!service.was_asked());
}

#[test]
fn a_hanging_question_stops_neither_ping_nor_another_question() {
    let (peer, service) = (
        IrcPeer::listen(),
        HttpService::listen(|city| match city {
            "slow" => Reply::AtGate,
            _ => Reply::Whole(200, PARIS.to_owned()),
        }),
    );
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    server.send("WEATHER bob :slow");
    assert_eq!(service.asked().query[1].1, "slow");
    server.assert_nothing_but_pong();
    server.assert_served();
    service.open_gate();
    assert_eq!(server.read(), "PRIVMSG bob :------------------------------");
}

#[test]
fn the_ninth_question_at_once_is_refused_and_a_later_one_is_taken() {
    let (peer, service) = (IrcPeer::listen(), HttpService::listen(|_| Reply::AtGate));
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    for number in 0..8 {
        server.send(&format!("WEATHER asker{number} :Paris"));
        service.asked();
    }
    let full = "8 questions are open already, ask again in a few seconds.";
    assert_eq!(server.ask("Paris"), full);
    assert!(!service.was_asked());
    service.open_gate();
    (0..8 * 9).for_each(|_| assert!(server.read().starts_with("PRIVMSG asker")));
    server.assert_served();
}
