//! Limits of open files.

use std::{iter::repeat_with, process::Command};

use crate::{program::Program, wire::Wire};

/// The server with a limit of 24 open files, so that some ten clients use them up; `kind` is `S` (the
/// soft limit only) or nothing (the hard limit as well).
fn limited(kind: &str) -> Command {
    let script = format!("ulimit -{kind}n 24 && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_irc-server")]);
    command
}

#[test]
fn a_soft_limit_does_not_bind() {
    let program = Program::start_as(|| limited("S"), &[]);
    let crowd: Vec<Wire> = (0..40).map(|number| Wire::enter(&program, &format!("c{number}"))).collect();
    assert_eq!(crowd.len(), 40);
}

#[test]
fn a_server_without_free_descriptors_serves_on_and_accepts_again_later() {
    let program = Program::start_as(|| limited(""), &[]);
    let mut alice = Wire::enter(&program, "alice");
    let crowd: Vec<Wire> = repeat_with(|| Wire::connect(&program)).take(40).collect();
    program.has_logged("cannot accept a connection").unwrap();
    alice.hears_nothing();
    drop(crowd);
    let mut bob = Wire::enter(&program, "bob");
    bob.say("PRIVMSG alice :hello");
    alice.hear("PRIVMSG");
}
