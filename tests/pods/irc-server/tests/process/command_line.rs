//! Arguments, help, exit statuses.

use std::{
    net::{Ipv6Addr, TcpListener},
    os::unix::ffi::OsStrExt,
    process::{Command, Output},
};

use crate::program::{Program, command};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    // A command line that is taken after all would start a server that does not end: `timeout` gives that status 124.
    let mut command = Command::new("timeout");
    command.args(["10", env!("CARGO_BIN_EXE_irc-server")]).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn bad_arguments_are_answered_with_the_usage_and_exit_status_2() {
    for arguments in [
        &[][..],
        &["6667"],
        &["0", "sesame"],
        &["70000", "sesame"],
        &["-1", "sesame"],
        &["port", "sesame"],
        &["6667", ""],
        &["6667", "sesame", "more"],
        &["--nonsense", "6667", "sesame"],
        &["--ping-interval", "0", "6667", "sesame"],
        &["--send-queue", "1", "6667", "sesame"],
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error:") && stderr.contains("Usage: irc-server"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_password_that_is_not_utf8_is_a_bad_argument() {
    let output = command().arg("6667").arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_teaches_and_version_names_on_standard_output_with_exit_status_0() {
    let (code, stdout, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for part in ["Usage: irc-server", "WEATHER alice :New York", "--ping-interval", "[default: 120]", "Exit status"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let (code, stdout, _) = run(&["--version"]);
    assert_eq!((code, stdout), (Some(0), format!("irc-server {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_port_that_is_taken_is_a_sentence_and_exit_status_1() {
    let holder = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let (code, stdout, stderr) = run(&[&port, "sesame"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.starts_with(&format!("irc-server: cannot listen on port {port}: Address already in use")),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn the_start_is_one_line_with_the_address() {
    let program = Program::start(&[]);
    assert_eq!(program.log(), [format!("irc-server: listening on [::]:{}", program.port)]);
}
