//! The bot as a process: started with a key, read line by line on stderr, ended with the test.

use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use pod_process::process::Process;

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
pub(crate) struct Bot(Process);

impl Bot {
    /// Starts the bot for a server and a weather service, with further options.
    pub(crate) fn start(server: &str, url: &str, options: &[&str]) -> Self {
        let mut command = command();
        command.args(options).args([server, PASSWORD]).env("WEATHER_API_KEY", KEY).env("WEATHER_API_URL", url);
        // Nobody serves this proxy: a bot that used it would answer nothing.
        command.env("ALL_PROXY", "http://127.0.0.1:1");
        Self(Process::spawn(&mut command))
    }

    /// Waits for the next line on stderr that contains `part` and gives it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        self.0.wait_for(part)
    }

    /// Sends a signal and waits for the end; the result is the exit status with all of stderr.
    #[track_caller]
    pub(crate) fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        self.0.stop(signal)
    }
}
