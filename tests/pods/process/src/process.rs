//! A program under test: a process whose standard error is read line by line, and which ends with its test.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a test waits for anything that ought to happen at once.
pub const PATIENCE: Duration = Duration::from_secs(12);

#[derive(Debug, Default)]
struct Log {
    /// The lines so far, and whether there will be no more.
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

/// A running program; it is killed when the test is over.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Log>,
    /// How many lines `wait_for` has gone past.
    read: usize,
}

impl Process {
    /// Starts a program.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (stderr, log) = (child.stderr.take().unwrap(), Arc::new(Log::default()));
        let copy = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.lines.lock().unwrap().0.push(line);
                copy.changed.notify_all();
            }
            copy.lines.lock().unwrap().1 = true;
            copy.changed.notify_all();
        });
        Self { child, log, read: 0 }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        pid(&self.child)
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().0.clone()
    }

    /// The first line of the log that contains `part`, as soon as there is one; `None` when the log ends without it.
    #[track_caller]
    pub fn has_logged(&self, part: &str) -> Option<String> {
        self.find(part, 0).map(|(_, line)| line)
    }

    /// The next line of the log that contains `part`, behind those that were waited for.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) -> String {
        let found = self.find(part, self.read);
        let (number, line) = found.unwrap_or_else(|| panic!("the log ends without {part:?}: {:#?}", self.log()));
        self.read = number + 1;
        line
    }

    /// The next line of the log.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        self.wait_for("")
    }

    #[track_caller]
    fn find(&self, part: &str, from: usize) -> Option<(usize, String)> {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.log.lines.lock().unwrap();
        loop {
            if let Some(found) = guard.0.iter().enumerate().skip(from).find(|(_, line)| line.contains(part)) {
                return Some((found.0, found.1.clone()));
            }
            if guard.1 {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = guard.0.clone();
                drop(guard);
                panic!("{part:?} is not in the log: {log:#?}");
            }
            guard = self.log.changed.wait_timeout(guard, left).unwrap().0;
        }
    }

    /// Waits for the end of the process, which its closed log announces.
    #[track_caller]
    pub fn ends(&mut self) -> ExitStatus {
        assert_eq!(self.has_logged("\0"), None, "no line has this character");
        self.child.wait().unwrap()
    }

    /// Sends a signal and waits for the end: the exit status, with the whole log.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> (ExitStatus, String) {
        kill(self.pid(), signal).unwrap();
        (self.ends(), self.log().join("\n"))
    }

    /// What an ended process has left on its standard output, if that is a pipe.
    pub fn output(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither fails in a way that matters: the process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that ends by itself: exit code, standard output, standard error. One that does not end is killed, and
/// fails the test.
#[track_caller]
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = pid(&child);
    let (sender, outputs) = channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = outputs.recv_timeout(PATIENCE) else {
        kill(pid, Signal::SIGKILL).unwrap();
        panic!("{command:?} does not end");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use nix::sys::signal::Signal;

    use super::{Process, run};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_are_waited_for_in_their_order_and_found_from_the_beginning() {
        let mut process = Process::spawn(&mut shell("echo one >&2; echo two >&2; echo three one >&2; exec sleep 60"));
        assert_eq!(process.wait_for("two"), "two");
        assert_eq!(process.wait_for("one"), "three one");
        assert_eq!(process.has_logged("one").as_deref(), Some("one"));
        let (status, log) = process.stop(Signal::SIGTERM);
        assert_eq!((status.success(), log.as_str()), (false, "one\ntwo\nthree one"));
        assert_eq!(process.has_logged("four"), None);
    }

    #[test]
    fn a_program_that_ends_is_run_to_its_end() {
        assert_eq!(run(&mut shell("echo out; echo err >&2; exit 3")), (Some(3), "out\n".into(), "err\n".into()));
    }
}
