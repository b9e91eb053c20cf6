//! Questions that get no weather: each is answered with one sentence, and the bot serves on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::bot::Bot;
use crate::http_service::{HttpService, PARIS, Reply};
use crate::irc_peer::IrcPeer;

const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{\"location\":{";

fn script(city: &str) -> Reply {
    let error = |code: u16, message: &str| format!(r#"{{"error":{{"code":{code},"message":"{message}"}}}}"#);
    match city {
        "bad key" => Reply::Whole(401, error(2006, "API key provided is invalid.")),
        "used-up key" => Reply::Whole(403, error(2007, "API key has exceeded calls per month quota.")),
        "nowhere" => Reply::Whole(400, error(1006, "No matching location found.")),
        "gone" => Reply::Whole(404, "<html>".to_owned()),
        "broken" => Reply::Whole(500, error(9999, "Internal application error.")),
        "elsewhere" => Reply::Redirect("/v1/other.json".to_owned()),
        "garbage" => Reply::Whole(200, "<html>not JSON</html>".to_owned()),
        "no field" => Reply::Whole(200, PARIS.replace("\"uv\"", "\"ultraviolet\"")),
        "null field" => Reply::Whole(200, PARIS.replace("18.0", "null")),
        "no HTTP" => Reply::Bytes("SSH-2.0-other\r\n\r\n"),
        "huge" => Reply::Whole(200, " ".repeat(70_000)),
        "closed half" => Reply::Bytes(HALF),
        "closed" => Reply::Bytes(""),
        "silent half" => Reply::BytesThenSilence(HALF),
        "silent" => Reply::BytesThenSilence(""),
        "dribble" => Reply::Dribble,
        _ => Reply::Whole(200, PARIS.to_owned()),
    }
}

#[test]
fn each_bad_answer_becomes_one_sentence_and_the_bot_serves_on() {
    let (peer, service) = (IrcPeer::listen(), HttpService::listen(script));
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    for (city, reason) in [
        ("bad key", "the weather service refused the bot's API key (401: API key provided is invalid)"),
        (
            "used-up key",
            "the weather service refused the bot's API key (403: API key has exceeded calls per month quota)",
        ),
        ("nowhere", "the weather service refused the question (400: No matching location found)"),
        ("gone", "the weather service refused the question (404)"),
        ("broken", "the weather service has a fault of its own (500), ask again later"),
        ("elsewhere", "the weather service answered with an unexpected status (302)"),
        ("garbage", "the answer of the weather service is not JSON"),
        ("no HTTP", "the weather service cannot be reached (its answer is not HTTP)"),
        ("huge", "the weather service cannot be reached (its answer is too long)"),
        ("closed half", "the weather service broke its answer off, ask again later"),
        ("closed", "the weather service broke its answer off, ask again later"),
    ] {
        assert_eq!(server.ask(city), format!("No weather for {city}: {reason}."));
        assert_eq!(service.asked().query[1].1, city);
        server.assert_nothing_but_pong();
    }
    for (city, field) in [("no field", "missing field `uv`"), ("null field", "invalid type: null")] {
        let sentence = server.ask(city);
        let beginning = format!("No weather for {city}: the answer of the weather service is not as expected ({field}");
        assert!(sentence.starts_with(&beginning), "{sentence}");
        service.asked();
        server.assert_nothing_but_pong();
    }
    server.assert_served();
    service.asked();
    assert!(!service.was_asked(), "the redirection was not followed, nothing was asked twice");
}

#[test]
fn a_silent_service_is_given_up_at_the_limit() {
    let (peer, service) = (IrcPeer::listen(), HttpService::listen(script));
    let _bot = Bot::start(&peer.address, &service.url, &["--answer-limit", "400"]);
    let mut server = peer.register();
    for city in ["silent", "silent half", "dribble"] {
        let begin = Instant::now();
        let reason = "the weather service did not answer in time, ask again later";
        assert_eq!(server.ask(city), format!("No weather for {city}: {reason}."));
        assert!(begin.elapsed() >= Duration::from_millis(350), "{city}: {:?}", begin.elapsed());
        server.assert_nothing_but_pong();
    }
    server.assert_served();
}

#[test]
fn questions_that_hung_give_their_places_back() {
    let (peer, service) = (IrcPeer::listen(), HttpService::listen(script));
    let _bot = Bot::start(&peer.address, &service.url, &["--answer-limit", "300"]);
    let mut server = peer.register();
    for _ in 0..2 {
        (0..8).for_each(|_| server.send("WEATHER alice :silent"));
        (0..8).for_each(|_| assert!(server.read_answer().contains("did not answer in time")));
    }
    server.assert_served();
}

#[test]
fn by_default_the_asker_hears_within_nine_seconds() {
    let (peer, service) = (IrcPeer::listen(), HttpService::listen(script));
    let _bot = Bot::start(&peer.address, &service.url, &[]);
    let mut server = peer.register();
    let begin = Instant::now();
    assert!(server.ask("dribble").contains("did not answer in time"));
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
}

#[test]
fn a_refused_connection_is_answered_with_a_sentence() {
    // A socket that is bound and does not listen refuses every connection, and nobody else gets its port.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let peer = IrcPeer::listen();
    let _bot = Bot::start(&peer.address, &format!("http://{}/", closed.local_addr().unwrap()), &[]);
    let mut server = peer.register();
    let sentence = "No weather for Paris: the weather service refused the connection, ask again later.";
    assert_eq!(server.ask("Paris"), sentence);
    server.assert_nothing_but_pong();
}

#[test]
fn a_service_without_tls_behind_https_is_answered_with_a_sentence() {
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = plain.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Waits for the client to close.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let peer = IrcPeer::listen();
    let _bot = Bot::start(&peer.address, &url, &[]);
    let mut server = peer.register();
    let sentence = server.ask("Paris");
    assert!(
        sentence.starts_with("No weather for Paris: the weather service cannot be reached (received corrupt message"),
        "{sentence}"
    );
    server.assert_nothing_but_pong();
}
