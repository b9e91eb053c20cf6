//! The bot as a process: started with a key, read line by line on stderr, ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::DEADLINE;

/// The password that every scripted IRC server expects.
pub(crate) const PASSWORD: &str = "s3cret-pass";
/// The key that the bot is given; the ampersand shows whether it is encoded.
pub(crate) const KEY: &str = "0a1b&2c3d";

/// A command without what the surroundings may have set.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weather-bot"));
    command.env_remove("WEATHER_API_KEY").env_remove("WEATHER_API_URL").stdin(Stdio::null());
    command
}

/// A running bot; it is killed when the test is over.
pub(crate) struct Bot {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Bot {
    /// Starts the bot for a server and a weather service, with further options.
    pub(crate) fn start(server: &str, url: &str, options: &[&str]) -> Self {
        let mut child = command()
            .args(options)
            .args([server, PASSWORD])
            .env("WEATHER_API_KEY", KEY)
            // Nobody serves this proxy: a bot that used it would answer nothing.
            .env("ALL_PROXY", "http://127.0.0.1:1")
            .env("WEATHER_API_URL", url)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for the next line on stderr that contains `part` and gives it.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("{part:?} is not on stderr:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Sends a signal and waits for the end; the result is the exit status with all of stderr.
    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        let end = Instant::now() + DEADLINE;
        // The channel ends when the process has closed its stderr.
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        assert!(Instant::now() < end, "the bot does not end:\n{}", self.seen.join("\n"));
        (self.child.wait().unwrap(), self.seen.join("\n"))
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        // It is over already when the test has stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
