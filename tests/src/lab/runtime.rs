//! The container runtime's part: it reads the conflist, and executes the plugin with an environment and JSON on stdin,
//! as libcni does.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::host::Host;

/// No call takes so long: one that does is ended.
const PATIENCE: Duration = Duration::from_secs(100);

/// A call of the plugin, with everything that a runtime would say.
#[derive(Debug, Clone)]
pub struct Call {
    /// The environment, nothing else.
    pub environment: Vec<(&'static str, String)>,
    /// What is on stdin.
    pub input: String,
    program: Option<PathBuf>,
    shell: Option<String>,
    input_stays_open: bool,
    output_is_dropped: bool,
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
    /// From the start of the process to the end of its output.
    pub took: Duration,
}

/// A call that is under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    held: Option<ChildStdin>,
    started: Instant,
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
        let input = configuration.to_string();
        Self { environment, input, program: None, shell: None, input_stays_open: false, output_is_dropped: false }
    }

    /// The same call with one variable changed.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.retain(|(key, _)| *key != name);
        self.environment.push((name, value.to_owned()));
        self
    }

    /// The same call without a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(key, _)| *key != name);
        self
    }

    /// The same call with another verb.
    #[must_use]
    pub fn verb(self, verb: &str) -> Self {
        self.with("CNI_COMMAND", verb)
    }

    /// The same call for another interface of the container.
    #[must_use]
    pub fn interface(self, name: &str) -> Self {
        self.with("CNI_IFNAME", name)
    }

    /// The same call with another configuration.
    #[must_use]
    pub fn configured(mut self, configuration: &Value) -> Self {
        self.input = configuration.to_string();
        self
    }

    /// The same call of another plugin than podwire.
    #[must_use]
    pub fn of(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// The same call, executed by a shell: `line` has the path of the plugin in `$0`, as in `umask 077; exec "$0"`.
    #[must_use]
    pub fn by(mut self, line: &str) -> Self {
        self.shell = Some(line.to_owned());
        self
    }

    /// The same call by a runtime that does not close its end of stdin before it has the answer.
    #[must_use]
    pub fn keep_input_open(mut self) -> Self {
        self.input_stays_open = true;
        self
    }

    /// The same call by a runtime that ends before it has the answer: nobody reads the output.
    #[must_use]
    pub fn drop_output(mut self) -> Self {
        self.output_is_dropped = true;
        self
    }

    /// Executes the plugin on a host.
    ///
    /// # Errors
    /// When it cannot be executed; its own failure is an answer.
    pub fn execute(&self, host: &Host) -> Result<Answer, String> {
        self.run(host, |running| running.answer())
    }

    /// Executes the plugin on a host, and kills it after some time, as a runtime does whose patience is over. It may have
    /// ended before that.
    ///
    /// # Errors
    /// As [`Call::execute`].
    pub fn execute_for(&self, host: &Host, limit: Duration) -> Result<Answer, String> {
        self.run(host, |mut running| {
            // Not for anything to happen: the time is what is wanted.
            thread::sleep(limit);
            running.child.kill().map_err(|error| format!("kill podwire: {error}"))?;
            running.answer()
        })
    }

    /// Starts the plugin on a host, and gives it its input.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(&self, host: &Host) -> Result<Running, String> {
        self.run(host, Ok)
    }

    /// Starts the plugin on a host, and does something with it before the thread that has started it ends: a child is then
    /// told from one that was left to this process by another.
    fn run<T: Send>(&self, host: &Host, work: impl FnOnce(Running) -> Result<T, String> + Send) -> Result<T, String> {
        // Found before the host is entered, whose /proc may know nothing of this process.
        let plugin = match &self.program {
            None => super::program("podwire").map_err(|error| error.to_string())?,
            Some(program) => program.clone(),
        };
        let name = plugin.file_name().unwrap_or_default().display().to_string();
        let start = || -> std::io::Result<Running> {
            let mut command = match &self.shell {
                None => Command::new(plugin),
                Some(line) => {
                    let mut shell = Command::new("/bin/sh");
                    shell.arg("-c").arg(line).arg(plugin);
                    shell
                }
            };
            let started = Instant::now();
            let mut child = command
                .env_clear()
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            if self.output_is_dropped {
                drop(child.stdout.take());
            }
            let mut held = child.stdin.take();
            if let Some(stdin) = &mut held {
                match stdin.write_all(self.input.as_bytes()) {
                    // It may have answered without reading.
                    Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
                    _ => {}
                }
            }
            Ok(Running { child, held: held.filter(|_| self.input_stays_open), started })
        };
        let failed = |error: std::io::Error| format!("execute {name} on {}: {error}", host.name);
        host.enter(|| start().map_err(failed).and_then(work))
    }
}

impl Running {
    /// Waits for the end of the process and of its output.
    ///
    /// # Errors
    /// When it does not end.
    pub fn answer(self) -> Result<Answer, String> {
        let Self { child, held, started } = self;
        let id = Pid::from_raw(child.id().cast_signed());
        let (over, is_over) = channel::<()>();
        let output = thread::scope(|scope| {
            scope.spawn(move || {
                if is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    // Its end is noticed below; that it has ended meanwhile is as good.
                    let _ = kill(id, Signal::SIGKILL);
                }
            });
            let output = child.wait_with_output();
            drop(over);
            output
        });
        let (output, took) = (output.map_err(|error| format!("wait for podwire: {error}"))?, started.elapsed());
        drop(held);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { code: output.status.code(), output: text(output.stdout), log: text(output.stderr), took })
    }

    /// Waits for the end of the process only, and tells whether anybody else has its output open at that moment. A runtime
    /// waits for that one too.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn is_outlived(mut self) -> Result<bool, String> {
        let failed = |error: std::io::Error| format!("wait for podwire: {error}");
        self.child.wait().map_err(failed)?;
        let streams = [self.child.stdout.as_ref().map(AsFd::as_fd), self.child.stderr.as_ref().map(AsFd::as_fd)];
        for stream in streams.into_iter().flatten() {
            let mut descriptors = [PollFd::new(stream, PollFlags::empty())];
            poll(&mut descriptors, PollTimeout::ZERO).map_err(|errno| failed(errno.into()))?;
            if !descriptors[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Executes a program where the calling thread is, gives it its input, and reads all that it says until it has ended.
///
/// # Errors
/// When it cannot be executed; its own failure is an answer.
pub fn converse(command: &mut Command, input: &str) -> std::io::Result<Answer> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It may have answered without reading.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer {
        code: output.status.code(),
        output: text(output.stdout),
        log: text(output.stderr),
        took: started.elapsed(),
    })
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

    /// That a call succeeded which has nothing to answer, in silence on both streams.
    ///
    /// # Errors
    /// What it said instead.
    pub fn silent(&self) -> Result<(), String> {
        let silent = self.code == Some(0) && self.output.is_empty() && self.log.is_empty();
        if silent { Ok(()) } else { Err(format!("exit code {:?}: {}{}", self.code, self.output, self.log)) }
    }

    /// Code and message of a call that failed. Its output is one error object, and its exit code is one.
    ///
    /// # Errors
    /// What it said instead.
    pub fn failure(&self) -> Result<(u64, String), String> {
        let instead = || format!("exit code {:?}: {:?}{}", self.code, self.output, self.log);
        let error: Value = serde_json::from_str(&self.output).map_err(|error| format!("{error}: {}", instead()))?;
        match (self.code, error["code"].as_u64(), error["msg"].as_str()) {
            (Some(1), Some(code), Some(message)) => Ok((code, message.to_owned())),
            _ => Err(instead()),
        }
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
