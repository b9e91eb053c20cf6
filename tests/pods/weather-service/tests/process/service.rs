//! The service as a process: started on a free port of loopback, read line by line on stderr, ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::DEADLINE;

/// A command of the service.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weather-service"));
    command.stdin(Stdio::null());
    command
}

/// A running service; it is killed when the test is over.
pub(crate) struct Service {
    /// Where it listens, as it said itself.
    pub(crate) address: String,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Service {
    /// Starts the service and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command().args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut service = Self { address: String::new(), child, lines, seen: Vec::new() };
        let line = service.next_line();
        let address = line.strip_prefix("weather-service: listening on ");
        service.address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        service
    }

    /// Waits for the next line on stderr.
    pub(crate) fn next_line(&mut self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("no further line on stderr:\n{}", self.seen.join("\n")));
        self.seen.push(line.clone());
        line
    }

    /// Asks and gives the status and the body. The pairs go into the query.
    pub(crate) fn ask(&self, pairs: &[(&str, &str)]) -> (u16, serde_json::Value) {
        self.ask_path("/v1/current.json", pairs)
    }

    /// Asks another path.
    pub(crate) fn ask_path(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, serde_json::Value) {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(DEADLINE));
        let agent = config.build().new_agent();
        let request = agent.get(format!("http://{}{path}", self.address)).query_pairs(pairs.iter().copied());
        let mut response = request.call().unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    /// Sends a signal and waits for the end; the result is the exit status with all of stderr.
    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        let end = Instant::now() + DEADLINE;
        // The channel ends when the process has closed its stderr.
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(Instant::now() < end, "the service does not end:\n{}", self.seen.join("\n"));
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It is over already when the test has stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
