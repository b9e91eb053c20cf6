//! The container runtime's part: it reads the conflist, and executes the plugin with an environment and JSON on stdin,
//! as libcni does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::host::Host;

/// A call of the plugin, with everything that a runtime would say.
#[derive(Debug, Clone)]
pub struct Call {
    /// The environment, nothing else.
    pub environment: Vec<(&'static str, String)>,
    /// What is on stdin.
    pub input: String,
}

/// What a call has answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The standard output, whole.
    pub output: String,
    /// The standard error, whole.
    pub log: String,
}

impl Call {
    /// A call for one interface, `eth0`, of a container.
    pub fn new(verb: &str, container: &str, netns: &Path, configuration: &Value) -> Self {
        let environment = vec![
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", container.to_owned()),
            ("CNI_NETNS", netns.display().to_string()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
            ("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={container}")),
        ];
        Self { environment, input: configuration.to_string() }
    }

    /// The same call with one variable changed.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.retain(|(key, _)| *key != name);
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Executes the plugin on a host.
    ///
    /// # Errors
    /// When it cannot be executed; its own failure is an answer.
    pub fn execute(&self, host: &Host) -> Result<Answer, String> {
        // Found before the host is entered, whose /proc may know nothing of this process.
        let podwire = super::program("podwire").map_err(|error| error.to_string())?;
        let run = || {
            let mut command = Command::new(podwire);
            command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value))).current_dir("/");
            converse(&mut command, &self.input)
        };
        host.enter(run).map_err(|error| format!("execute podwire on {}: {error}", host.name))
    }
}

/// Executes a program where the calling thread is, gives it its input, and reads all that it says until it has ended.
///
/// # Errors
/// When it cannot be executed; its own failure is an answer.
pub fn converse(command: &mut Command, input: &str) -> std::io::Result<Answer> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It may have answered without reading.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer { code: output.status.code(), output: text(output.stdout), log: text(output.stderr) })
}

impl Answer {
    /// The result of a call that succeeded.
    ///
    /// # Errors
    /// The plugin's own words, when it did not.
    pub fn result(&self) -> Result<Value, String> {
        if self.code != Some(0) {
            return Err(format!("exit code {:?}: {}{}", self.code, self.output, self.log));
        }
        if self.output.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.output).map_err(|error| format!("{error}: {:?}", self.output))
    }
}

/// The configuration that a runtime gives the first plugin of the conflist in a host's directory: the plugin's section
/// with the name of the network and the version.
///
/// # Errors
/// When there is no conflist, or it is none.
pub fn configuration(host: &Host, directory: &str) -> Result<Value, String> {
    let path = host.enter(|| first_conflist(Path::new(directory)))?;
    let text = host.enter(|| std::fs::read_to_string(&path));
    let text = text.map_err(|error| format!("read {} on {}: {error}", path.display(), host.name))?;
    let conflist: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut configuration = conflist["plugins"][0].clone();
    configuration["name"] = conflist["name"].clone();
    configuration["cniVersion"] = conflist["cniVersion"].clone();
    Ok(configuration)
}

fn first_conflist(directory: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(directory).map_err(|error| format!("list {}: {error}", directory.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let first = paths.filter(|path| path.extension().is_some_and(|extension| extension == "conflist")).min();
    first.ok_or_else(|| format!("no conflist in {}", directory.display()))
}
