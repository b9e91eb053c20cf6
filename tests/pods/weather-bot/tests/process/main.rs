//! The real `weather-bot` process against a scripted IRC server and scripted HTTP services on loopback. The modules
//! `bot`, `irc_peer` and `http_service` are the stage; the others hold the tests.

#![expect(
    clippy::unwrap_used,
    reason = "the stage of the tests may stop at the first surprise, as the tests themselves"
)]

mod answers;
mod bot;
mod connection;
mod failures;
mod http_service;
mod irc_peer;
mod secrets;
mod start;
