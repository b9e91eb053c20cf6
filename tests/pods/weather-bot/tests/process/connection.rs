//! The connection to the IRC server: lost, refused, silent, and found again; and the end of the bot itself.

use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::net::TcpSocket;

use crate::bot::Bot;
use crate::http_service::{HttpService, PARIS, Reply};
use crate::irc_peer::IrcPeer;

const QUICK: [&str; 2] = ["--first-wait", "20"];

#[test]
fn a_closed_connection_is_made_again_and_a_registration_resets_the_wait() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
    for _ in 0..3 {
        peer.register().close();
        bot.wait_for("connected to");
        let line = bot.wait_for("next attempt");
        let said =
            format!("weather-bot: {}: the server closed the connection; the next attempt is in 20ms", peer.address);
        assert_eq!(line, said);
    }
    peer.register().assert_served();
}

#[test]
fn the_wait_doubles_while_the_server_is_away_and_the_bot_comes_when_it_is_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    // Bound and not listening: the kernel refuses, and nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (address, service) = (socket.local_addr().unwrap().to_string(), HttpService::good());
    let mut bot = Bot::start(&address, &service.url, &QUICK);
    for wait in ["20ms", "40ms", "80ms", "160ms"] {
        let line = bot.wait_for("cannot be reached (Connection refused");
        assert!(line.ends_with(&format!("; the next attempt is in {wait}")), "{line}");
    }
    let listener = socket.listen(8).unwrap().into_std().unwrap();
    listener.set_nonblocking(false).unwrap();
    let peer = IrcPeer::from_listener(listener);
    peer.register().assert_served();
    bot.wait_for("connected to");
}

#[test]
fn a_wrong_password_is_said_and_tried_again() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
    let mut refusing = peer.accept();
    refusing.send(":irc.example 464 * :Password incorrect");
    let line = bot.wait_for("464");
    assert!(line.contains("the server refused the password (464), start the bot with the server's password"), "{line}");
    assert_eq!(refusing.read_raw(), "", "the bot closes the refused connection");
    peer.register().assert_served();
}

#[test]
fn a_taken_nickname_is_said_and_tried_again_with_the_same_name() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
    for wait in ["20ms", "40ms"] {
        // `accept` checks that the name is `bot` each time.
        peer.accept().send(":irc.example 433 * bot :Nickname is already in use");
        let line = bot.wait_for("433");
        assert!(line.contains("the nickname bot is taken (433)") && line.ends_with(wait), "{line}");
    }
    peer.register().assert_served();
}

#[test]
fn an_error_of_the_server_is_said_in_one_line() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
    peer.register().send("ERROR :Closing link \u{1b}[31m(flood)");
    assert!(bot.wait_for("ended the connection").contains("(Closing link [31m(flood))"));
    peer.register().assert_served();
}

#[test]
fn a_silent_server_is_pinged_and_then_left() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &["--first-wait", "20", "--silence", "500"]);
    let mut dead = peer.register();
    // A server that answers is pinged again and kept.
    for _ in 0..2 {
        assert_eq!(dead.read(), "PING :bot");
        dead.send(":irc.example PONG irc.example :bot");
    }
    assert_eq!(dead.read(), "PING :bot");
    bot.wait_for("the server is silent and did not answer a ping");
    drop(peer.register());
}

#[test]
fn a_server_that_reads_nothing_is_left() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &["--first-wait", "20", "--silence", "300"]);
    let deaf = peer.register();
    std::thread::spawn(move || deaf.ping_without_reading());
    bot.wait_for("the server takes no more data");
    drop(peer.register());
}

#[test]
fn a_server_that_accepts_nothing_is_left() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(0).unwrap();
    // Fills the queue of the listener: from then on the kernel drops what wants to connect.
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 8, "the queue has no end");
    }
    let service = HttpService::good();
    let mut bot = Bot::start(&address.to_string(), &service.url, &["--first-wait", "20", "--silence", "300"]);
    bot.wait_for("the server did not accept the connection in time; the next attempt is in 20ms");
}

#[test]
fn a_server_that_never_registers_the_bot_is_left() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &["--first-wait", "20", "--silence", "150"]);
    let mut mute = peer.accept();
    mute.send(":irc.example NOTICE * :Please wait");
    bot.wait_for("the server did not complete the registration in time");
    drop(peer.register());
}

#[test]
fn a_ping_before_the_registration_is_answered() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let _bot = Bot::start(&peer.address, &service.url, &QUICK);
    peer.accept().assert_nothing_but_pong();
}

#[test]
fn an_answer_that_outlives_its_connection_is_dropped() {
    let (peer, service) = (
        IrcPeer::listen(),
        HttpService::listen(|city| if city == "slow" { Reply::AtGate } else { Reply::Whole(200, PARIS.to_owned()) }),
    );
    let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
    let mut first = peer.register();
    first.send("WEATHER alice :slow");
    service.asked();
    first.close();
    let mut second = peer.register();
    service.open_gate();
    assert_eq!(
        bot.wait_for("dropped"),
        "weather-bot: alice asked for slow, but the connection is gone and the answer is dropped"
    );
    second.assert_nothing_but_pong();
    second.assert_served();
}

#[test]
fn an_endless_line_does_not_end_the_session() {
    let (peer, service) = (IrcPeer::listen(), HttpService::good());
    let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
    let mut server = peer.register();
    server.send(&"x".repeat(100_000));
    bot.wait_for("a line that is too long is passed over");
    server.assert_served();
}

#[test]
fn both_signals_end_the_bot_with_success_even_while_a_question_hangs() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (peer, service) = (IrcPeer::listen(), HttpService::listen(|_| Reply::AtGate));
        let mut bot = Bot::start(&peer.address, &service.url, &QUICK);
        let mut server = peer.register();
        bot.wait_for("connected to");
        server.send("WEATHER alice :Paris");
        service.asked();
        let begin = Instant::now();
        let (status, stderr) = bot.stop(signal);
        assert_eq!(status.code(), Some(0), "{signal}: {stderr}");
        assert!(stderr.ends_with(&format!("weather-bot: stopped by {signal}")), "{stderr}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{signal}: {:?}", begin.elapsed());
    }
}
