//! The service as a process: started on a free port of loopback, read line by line on stderr, ended with the test.

use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use pod_process::process::{PATIENCE, Process};

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
    process: Process,
}

impl Service {
    /// Starts the service and waits until it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut process = Process::spawn(command().args(arguments));
        let line = process.next_line();
        let address = line.strip_prefix("weather-service: listening on ");
        let address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { address, process }
    }

    /// Waits for the next line on stderr.
    #[track_caller]
    pub(crate) fn next_line(&mut self) -> String {
        self.process.next_line()
    }

    /// Asks and gives the status and the body. The pairs go into the query.
    pub(crate) fn ask(&self, pairs: &[(&str, &str)]) -> (u16, serde_json::Value) {
        self.ask_path("/v1/current.json", pairs)
    }

    /// Asks another path.
    pub(crate) fn ask_path(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, serde_json::Value) {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(PATIENCE));
        let agent = config.build().new_agent();
        let request = agent.get(format!("http://{}{path}", self.address)).query_pairs(pairs.iter().copied());
        let mut response = request.call().unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    /// Sends a signal and waits for the end; the result is the exit status with all of stderr.
    #[track_caller]
    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        self.process.stop(signal)
    }
}
