//! One process: what a runtime executes, and how long it took.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use podwire_tests::lab::chain::PATH;
use podwire_tests::lab::runtime::{Answer, Call, converse};
use serde_json::Value;

/// A program with everything that it is told.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    input: String,
}

impl Step {
    /// A call of a CNI plugin; `path` is where it finds others.
    pub(crate) fn plugin(program: PathBuf, call: Call, path: &str) -> Self {
        let Call { environment, input, .. } = call.with("CNI_PATH", path).with("PATH", PATH);
        Self { program, arguments: Vec::new(), environment, input }
    }

    /// A program that is told all by its arguments.
    pub(crate) fn bare(program: PathBuf, arguments: Vec<String>) -> Self {
        Self { program, arguments, environment: Vec::new(), input: String::new() }
    }

    /// The same, executed by `peak`, which writes into `file`.
    pub(crate) fn weighed(self, peak: &Path, file: &Path) -> Self {
        let told = [file, &self.program].map(|path| path.display().to_string());
        Self { program: peak.into(), arguments: told.into_iter().chain(self.arguments).collect(), ..self }
    }

    /// Executes it where the calling thread is: its answer, and the time from before it was started until it had ended and
    /// all it said was read.
    ///
    /// # Errors
    /// When it fails, with what it has said.
    pub(crate) fn execute(&self) -> Result<(Value, Duration), String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().current_dir("/");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let start = Instant::now();
        let answer = converse(&mut command, &self.input);
        let took = start.elapsed();
        let result = answer.map_err(|error| error.to_string()).and_then(|answer| Answer::result(&answer));
        result.map(|result| (result, took)).map_err(|why| format!("execute {}: {why}", self.program.display()))
    }
}
