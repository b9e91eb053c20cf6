//! The program under test: a process on a port of its own, whose log can be waited for.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv6Addr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The password of every server here.
pub(crate) const PASSWORD: &str = "sesame";
/// How long a test waits for anything that ought to happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

/// A running server; it is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) port: u16,
    log: Arc<Log>,
}

/// A port that was free a moment ago, for both families.
fn free_port() -> u16 {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port()
}

/// The program, not yet started.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_irc-server"))
}

impl Program {
    /// Starts the server with options on a free port, and waits until it listens.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_as(command, options)
    }

    /// Starts what `command` gives with options on a free port, and waits until it listens.
    pub(crate) fn start_as(command: impl Fn() -> Command, options: &[&str]) -> Self {
        // The port may be taken by another test between its choice and its use.
        std::iter::repeat_with(|| Self::start_on(free_port(), command(), options))
            .take(5)
            .flatten()
            .next()
            .expect("the server did not start on any of five ports")
    }

    /// Starts `command` with options on a port; `None` when it ends without listening.
    pub(crate) fn start_on(port: u16, mut command: Command, options: &[&str]) -> Option<Self> {
        let mut child = command
            .args(options)
            .args([&port.to_string(), PASSWORD])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let (stderr, copy) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                copy.lines.lock().unwrap().0.push(line);
                copy.changed.notify_all();
            }
            copy.lines.lock().unwrap().1 = true;
            copy.changed.notify_all();
        });
        let program = Self { child, port, log };
        program.has_logged("listening on").is_some().then_some(program)
    }

    /// Waits for a line of the log; `None` when the log ends without it. Fails when patience ends.
    pub(crate) fn has_logged(&self, part: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut guard = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = guard.0.iter().find(|line| line.contains(part)) {
                return Some(line.clone());
            }
            if guard.1 {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = guard.0.clone();
                drop(guard);
                panic!("{part:?} is not in the log: {log:?}");
            }
            guard = self.log.changed.wait_timeout(guard, left).unwrap().0;
        }
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().0.clone()
    }

    /// The number of the process.
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits for the end of the process, which its closed log announces.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        assert_eq!(self.has_logged("no line has these words"), None);
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Neither fails in a way that matters: the process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A panic of one client's task would otherwise pass unseen: the others are served on.
        if !thread::panicking() {
            let log = self.log();
            assert!(!log.iter().any(|line| line.contains("panicked")), "the server panicked: {log:#?}");
        }
    }
}
