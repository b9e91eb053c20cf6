//! The program under test: a process on a port of its own, whose log can be waited for.

use std::net::{Ipv6Addr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::process::{Command, Stdio};
use std::thread;

pub(crate) use pod_process::process::PATIENCE;
use pod_process::process::Process;

/// The password of every server here.
pub(crate) const PASSWORD: &str = "sesame";

/// A running server; it is killed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Program {
    process: Process,
    pub(crate) port: u16,
}

impl Deref for Program {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Program {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
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
        command.args(options).args([&port.to_string(), PASSWORD]).stdin(Stdio::null()).stdout(Stdio::null());
        let program = Self { process: Process::spawn(&mut command), port };
        program.has_logged("listening on").is_some().then_some(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A panic of one client's task would otherwise pass unseen: the others are served on.
        if !thread::panicking() {
            let log = self.log();
            assert!(!log.iter().any(|line| line.contains("panicked")), "the server panicked: {log:#?}");
        }
    }
}
