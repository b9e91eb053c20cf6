//! The real `weather-service` process, asked over loopback. `service` is the stage; the other modules hold the tests.

#![expect(
    clippy::unwrap_used,
    reason = "the stage of the tests may stop at the first surprise, as the tests themselves"
)]

mod answers;
mod clients;
mod service;
mod start;
