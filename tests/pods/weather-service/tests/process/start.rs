//! The start and the end: what is refused, what help and version say, what the signals do.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use pod_process::process;

use crate::service::{Service, command};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    process::run(command().args(arguments))
}

#[test]
fn bad_arguments_refuse_to_start_with_the_usage() {
    for arguments in [&[][..], &["8080"], &["localhost:8080"], &["127.0.0.1:0", "--key", ""], &["127.0.0.1:0", "0a1b"]]
    {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains("Usage: weather-service"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_taken_address_is_a_failure_at_run_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(&[&address]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.starts_with(&format!("weather-service: cannot listen on {address}: ")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn help_and_version_are_printed_on_stdout() {
    let (code, help, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for word in ["<ADDRESS:PORT>", "--key", "/v1/current.json", "São Paulo"] {
        assert!(help.contains(word), "{word} is not in the help:\n{help}");
    }
    let (code, version, _) = run(&["--version"]);
    assert_eq!((code, version.as_str()), (Some(0), concat!("weather-service ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn both_signals_end_the_service_with_success() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let service = Service::start(&["127.0.0.1:0"]);
        let (status, stderr) = service.stop(signal);
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert_eq!(stderr.matches("listening on").count(), 1, "{stderr}");
        assert!(stderr.ends_with(&format!("weather-service: stopped by {signal}")), "{stderr}");
    }
}
