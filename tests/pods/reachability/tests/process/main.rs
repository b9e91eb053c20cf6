//! The program as a pod starts it. The one pod of these tests is its own only fellow: by `localhost`, over the loopback. Scenes
//! with several are those of the shipped manifests.

#![expect(
    clippy::unwrap_used,
    reason = "the stage of the tests may stop at the first surprise, as the tests themselves"
)]

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pod_process::process::Process;

/// Enough for everything here.
const SOON: Duration = Duration::from_secs(20);

/// A pod that goes with its test.
struct Pod {
    process: Process,
    port: String,
}

impl Pod {
    fn start(name: &str, addresses: &str) -> Self {
        // Free at this moment; the kernel gives the next one that asks another.
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_reachability"));
        command.args(["serve", name, "--port", &port, "--every", "50"]);
        command.envs([("POD_NAME", "pod-a"), ("NODE_NAME", "node-1"), ("POD_IPS", addresses)]);
        let process = Process::spawn(command.stdout(Stdio::piped()));
        Self { process, port }
    }

    /// What `reachability show` answers, as soon as it is as expected.
    fn shows(&self, well: bool, words: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let output = Command::new(env!("CARGO_BIN_EXE_reachability")).args(["show", "--port", &self.port]).output();
            let output = output.unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            if output.status.success() == well && text.contains(words) {
                return text;
            }
            assert!(Instant::now() < deadline, "{}: {text}", output.status);
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// The loopback addresses that `localhost` resolves to here.
fn localhost() -> String {
    use std::net::ToSocketAddrs;
    let mut addresses: Vec<_> =
        ("localhost", 0).to_socket_addrs().unwrap().map(|found| found.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.join(",")
}

#[test]
fn a_pod_that_reaches_itself_by_every_address_reports_success() {
    let pod = Pod::start("localhost", &localhost());
    let text = pod.shows(true, "ok: each of 1 pods reaches all");
    assert!(text.contains("1 of 1") && text.contains("node-1") && text.contains("pod-a"), "{text}");
}

#[test]
fn a_source_that_is_not_the_pods_own_address_is_found_out() {
    let pod = Pod::start("localhost", "192.0.2.1");
    let text = pod.shows(false, "saw ");
    assert!(text.contains("which is not this pod's address"), "{text}");
    assert!(text.contains("nobody finds its address 192.0.2.1"), "{text}");
}

#[test]
fn a_name_without_addresses_is_reported_and_sigterm_ends_it() {
    let mut pod = Pod::start("fellows.invalid", "127.0.0.1");
    pod.shows(false, "resolve fellows.invalid: ");
    let (status, log) = pod.process.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
    assert!(log.starts_with("reachability: pod-a of node-1 listens on port "), "{log}");
    assert!(log.ends_with("\nreachability: stopped by SIGTERM"), "{log}");
    let printed = pod.process.output();
    assert_eq!(printed.matches("resolve fellows.invalid").count(), 1, "a matrix is printed when it changes: {printed}");
}
