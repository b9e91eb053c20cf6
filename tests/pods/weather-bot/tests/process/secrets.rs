//! The key and the password reach neither stderr nor an asker, whatever the service and the server do.

use std::net::Ipv4Addr;

use nix::sys::signal::Signal;
use tokio::net::TcpSocket;

use crate::bot::{Bot, KEY, PASSWORD};
use crate::http_service::{HttpService, PARIS, Reply};
use crate::irc_peer::IrcPeer;

/// The key as it stands in a URL.
const ENCODED_KEY: &str = "0a1b%262c3d";

fn script(city: &str) -> Reply {
    match city {
        "repeated" => Reply::Whole(401, format!(r#"{{"error":{{"code":2006,"message":"{KEY} is invalid"}}}}"#)),
        "hidden" => Reply::Whole(400, r#"{"error":{"code":1,"message":"0a1b\u0026\u00012c3d"}}"#.to_owned()),
        "named" => Reply::Whole(200, PARIS.replace("Paris", KEY)),
        "mistyped" => Reply::Whole(200, PARIS.replace("18.0", &format!("\"{KEY}\""))),
        "elsewhere" => Reply::Redirect(format!("http://127.0.0.1:1/?key={KEY}")),
        "no HTTP" => Reply::Bytes("SSH-2.0-0a1b&2c3d\r\n\r\n"),
        "silent" => Reply::BytesThenSilence(""),
        _ => Reply::Whole(200, PARIS.to_owned()),
    }
}

#[test]
fn neither_key_nor_password_is_ever_logged() {
    let (peer, service) = (IrcPeer::listen(), HttpService::listen(script));
    let mut bot = Bot::start(&peer.address, &service.url, &["--first-wait", "20", "--answer-limit", "300"]);
    peer.accept().send(":irc.example 464 * :Password incorrect");
    let mut server = peer.register();
    let mut told = String::new();
    for city in ["repeated", "hidden", "mistyped", "elsewhere", "no HTTP", "silent"] {
        let sentence = server.ask(city);
        assert!(sentence.starts_with("No weather for"), "{city}: {sentence}");
        told.push_str(&sentence);
        server.assert_nothing_but_pong();
    }
    server.ask("named");
    let lines: Vec<String> = (0..8).map(|_| server.read_answer()).collect();
    assert_eq!(lines[1], "Location: [key], France");
    bot.wait_for("asked for named");
    let (_, stderr) = bot.stop(Signal::SIGTERM);
    assert!(stderr.contains("[key] is invalid"), "the journal has the sentence without the key:\n{stderr}");
    for text in [&told, &stderr] {
        for secret in [KEY, ENCODED_KEY, PASSWORD, "key="] {
            assert!(!text.contains(secret), "{secret} is told:\n{text}");
        }
    }
}

#[test]
fn an_unreachable_service_does_not_bring_the_key_into_the_open() {
    // A socket that is bound and does not listen refuses every connection, and nobody else gets its port.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let peer = IrcPeer::listen();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    let mut bot = Bot::start(&peer.address, &url, &[]);
    let mut server = peer.register();
    let sentence = server.ask("Paris");
    bot.wait_for("refused the connection");
    let (_, stderr) = bot.stop(Signal::SIGTERM);
    for text in [&sentence, &stderr] {
        assert!(!text.contains(KEY) && !text.contains(ENCODED_KEY), "{text}");
    }
}
