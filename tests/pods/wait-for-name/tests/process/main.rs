//! The program as a pod starts it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// No name of this kind is ever given to anybody (RFC 2606, section 2).
const NOBODY: &str = "irc-server.invalid";

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_wait-for-name"))
}

#[test]
fn it_ends_when_the_name_has_an_address() {
    let output = program().arg("localhost").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.starts_with("wait-for-name: localhost is "), "{said}");
    assert!(said.contains("127.0.0.1") || said.contains("::1"), "{said}");
}

#[test]
fn it_waits_for_a_name_without_one_and_ends_when_the_time_is_over() {
    let started = Instant::now();
    let output = program().args([NOBODY, "--within", "1", "--every", "10"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.ends_with("irc-server.invalid has no address after 1 s\n"), "{said}");
    assert!(said.lines().count() <= 3, "it says the same again and again: {said}");
}

#[test]
fn it_can_be_told_to_stop() {
    let mut waiting = program().args([NOBODY, "--every", "10"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    // Only a program that waits has handlers for the signal.
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("wait-for-name: waiting for irc-server.invalid: "), "{first}");
    kill(Pid::from_raw(waiting.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
    assert_eq!(lines.last().unwrap().unwrap(), "wait-for-name: stopped by SIGTERM");
}
