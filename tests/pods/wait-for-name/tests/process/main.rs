//! The program as a pod starts it.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pod_process::process::Process;

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
fn sigterm_ends_it() {
    let mut waiting = Process::spawn(program().args([NOBODY, "--every", "10"]));
    // Only a program that waits has handlers for the signal.
    let first = waiting.next_line();
    assert!(first.starts_with("wait-for-name: waiting for irc-server.invalid: "), "{first}");
    let (status, log) = waiting.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(1));
    assert!(log.ends_with("wait-for-name: stopped by SIGTERM"), "{log}");
}
