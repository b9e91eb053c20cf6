//! The server operator as it is given on the command line or in the environment.

use crate::{
    program::{Program, command},
    wire::Wire,
};

/// Bob becomes operator and kills Alice; the log tells of both, and of no password.
fn play(program: &Program) {
    let mut alice = Wire::enter(program, "alice");
    let mut bob = Wire::enter(program, "bob");
    alice.say("OPER root open");
    alice.hear(" 464 ");
    bob.say("OPER root :open sesame");
    bob.hear(" 381 ");
    bob.say("KILL alice :private words");
    assert!(alice.rest().ends_with("ERROR :Closing link: 127.0.0.1 (Killed (bob (private words)))\r\n"));
    program.has_logged("alice!alice@127.0.0.1 left: killed by bob").unwrap();
    assert_eq!(
        program.log()[3..],
        [
            "irc-server: alice!alice@127.0.0.1 gave a wrong name or password of the server operator",
            "irc-server: bob!bob@127.0.0.1 became server operator",
            "irc-server: alice!alice@127.0.0.1 left: killed by bob",
        ]
    );
}

#[test]
fn an_operator_of_the_command_line_kills() {
    play(&Program::start(&["--oper-name", "root", "--oper-password", "open sesame"]));
}

#[test]
fn an_operator_of_the_environment_kills() {
    let with_environment = || {
        let mut command = command();
        command.env("IRC_OPER_NAME", "root").env("IRC_OPER_PASSWORD", "open sesame");
        command
    };
    play(&Program::start_as(with_environment, &[]));
}

#[test]
fn the_help_shows_no_password_of_the_environment() {
    for argument in ["-h", "--help", "--nonsense"] {
        let output = command().arg(argument).env("IRC_OPER_PASSWORD", "open sesame").output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(text.contains("Usage") && !text.contains("open sesame"), "{argument}: {text}");
    }
}
