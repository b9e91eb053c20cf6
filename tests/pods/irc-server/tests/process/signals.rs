//! The end of the process.

use std::time::{Duration, Instant};

use nix::sys::{
    signal::{Signal, kill},
    socket::{setsockopt, sockopt::RcvBuf},
};

use crate::{
    program::{Program, command},
    wire::Wire,
};

#[test]
fn sigterm_and_sigint_end_the_server_with_exit_status_0_and_a_farewell() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut program = Program::start(&[]);
        let mut alice = Wire::enter(&program, "alice");
        kill(program.pid(), signal).unwrap();
        assert_eq!(alice.rest(), "ERROR :Closing link: 127.0.0.1 (The server ends)\r\n");
        assert_eq!(program.ends().code(), Some(0), "{signal}");
        assert!(program.log().contains(&format!("irc-server: ends on {signal}")), "{:?}", program.log());
    }
}

#[test]
fn a_client_that_takes_nothing_does_not_keep_the_server_from_ending() {
    let mut program = Program::start(&["--send-queue", "100000000"]);
    let mut alice = Wire::enter(&program, "alice");
    let mut stuck = Wire::enter(&program, "stuck");
    setsockopt(stuck.stream(), RcvBuf, &4096).unwrap();
    // More than the kernel takes for one connection, so that the last lines stay in the queue.
    stuck.asks_for_more_than_it_takes();
    stuck.say("PRIVMSG alice :all asked");
    alice.hear("all asked");
    let began = Instant::now();
    kill(program.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(program.ends().code(), Some(0));
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn a_restart_gets_the_port_at_once() {
    let mut program = Program::start(&[]);
    let mut alice = Wire::enter(&program, "alice");
    // The server ends the connection first, so its side of it lingers in the kernel.
    kill(program.pid(), Signal::SIGTERM).unwrap();
    alice.rest();
    drop(alice);
    program.ends();
    let again = Program::start_on(program.port, command(), &[]).expect("the port was not free again");
    Wire::enter(&again, "alice");
}
