//! Clients that say nothing: pings and time-outs, in fractions of seconds.

use std::time::{Duration, Instant};

use crate::{program::Program, wire::Wire};

#[test]
fn a_silent_client_is_pinged_and_dropped_and_one_that_answers_stays() {
    let program = Program::start(&["--ping-interval", "0.2", "--ping-timeout", "0.5"]);
    let mut quiet = Wire::enter(&program, "quiet");
    let mut lively = Wire::enter(&program, "lively");
    assert_eq!(quiet.line().unwrap(), "PING :irc.podwire.test");
    // The lively one answers for longer than both times together.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        lively.hear("PING :irc.podwire.test");
        lively.say("PONG :irc.podwire.test");
    }
    assert_eq!(quiet.rest(), "ERROR :Closing link: 127.0.0.1 (Ping timeout)\r\n");
    program.has_logged("quiet!quiet@127.0.0.1 left: ping timeout").unwrap();
    assert!(!program.log().iter().any(|line| line.contains("lively!lively@127.0.0.1 left")));
}

#[test]
fn a_client_that_never_registers_is_dropped() {
    let program = Program::start(&["--registration-timeout", "0.3"]);
    let mut silent = Wire::connect(&program);
    let mut half = Wire::connect(&program);
    half.say("CAP LS 302\r\nPASS sesame\r\nNICK half\r\nUSER half 0 * :Half");
    assert_eq!(silent.rest(), "ERROR :Closing link: 127.0.0.1 (Registration timeout)\r\n");
    assert!(half.rest().ends_with("(Registration timeout)\r\n"));
}

#[test]
fn a_weather_question_without_an_answer_is_given_up() {
    let program = Program::start(&["--weather-timeout", "0.3"]);
    let mut bot = Wire::enter(&program, "bot");
    let mut alice = Wire::enter(&program, "alice");
    alice.say("WEATHER New York");
    assert_eq!(bot.line().unwrap(), "WEATHER alice :New York");
    assert_eq!(
        alice.line().unwrap(),
        ":irc.podwire.test NOTICE alice :The weather bot has not answered about New York within 0.3 s"
    );
}
