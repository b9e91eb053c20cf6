//! Registration and leaving as they look on the wire and in the log.

use crate::{program::Program, wire::Wire};

#[test]
fn a_wrong_password_is_464_and_the_end_of_the_connection() {
    let program = Program::start(&[]);
    let mut eve = Wire::connect(&program);
    eve.say("CAP LS 302\r\nPASS simsim\r\nNICK eve\r\nUSER eve 0 * :Eve");
    let rest = eve.rest();
    assert!(rest.contains(" 464 * :") && rest.ends_with("(Password incorrect or missing)\r\n"), "{rest}");
    assert!(!rest.contains(" 001 "), "{rest}");
}

#[test]
fn a_missing_password_is_464_and_the_end_of_the_connection() {
    let program = Program::start(&[]);
    let mut eve = Wire::connect(&program);
    eve.say("NICK eve\r\nUSER eve 0 * :Eve");
    assert!(eve.rest().contains(" 464 eve :"));
}

#[test]
fn the_log_has_one_line_for_joining_and_one_for_leaving_and_no_secrets() {
    let program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    let mut bob = Wire::enter(&program, "bob");
    alice.say("PRIVMSG bob :private words");
    bob.hear("private words");
    alice.say("QUIT :private words");
    assert!(alice.rest().ends_with("ERROR :Closing link: 127.0.0.1 (Quit: private words)\r\n"));
    drop(bob);
    program.has_logged("bob!bob@127.0.0.1 left").unwrap();
    assert_eq!(
        program.log()[1..],
        [
            "irc-server: alice!alice@127.0.0.1 joined the server",
            "irc-server: bob!bob@127.0.0.1 joined the server",
            "irc-server: alice!alice@127.0.0.1 left: quit",
            "irc-server: bob!bob@127.0.0.1 left: Connection closed",
        ]
    );
}

#[test]
fn a_client_that_stops_sending_still_gets_its_last_lines() {
    let program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    alice.say("PING :last");
    alice.stop_sending();
    assert_eq!(
        alice.rest(),
        ":irc.podwire.test PONG irc.podwire.test :last\r\nERROR :Closing link: 127.0.0.1 (Connection closed)\r\n"
    );
}
