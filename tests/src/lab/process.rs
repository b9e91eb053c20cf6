//! A program that runs on a host: what it says is kept, and it ends with the lab.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    said: Arc<Said>,
}

/// The lines a program has said so far, on either stream.
#[derive(Debug, Default)]
struct Said {
    heard: Mutex<Heard>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    /// How many of its streams have ended: at both, it can say no more.
    ended: u8,
}

impl Process {
    /// Starts a program where the calling thread is.
    pub(super) fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().display().to_string();
        // A program inherits the signals that are held back. Ours may be; it must be able to end.
        let held = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(|errno| errno.to_string())?;
        let spawned = command.spawn();
        held.thread_set_mask().map_err(|errno| errno.to_string())?;
        let mut child = spawned.map_err(|error| format!("start {program}: {error}"))?;
        let said = Arc::new(Said::default());
        if let Some(stream) = child.stdout.take() {
            said.clone().listen(stream);
        }
        if let Some(stream) = child.stderr.take() {
            said.clone().listen(stream);
        }
        Ok(Self { name: name.into(), child, said })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its process id as the machine knows it, for a human who wants to look at it from outside.
    pub fn machine_id(&self) -> Option<u32> {
        machine_id(self.child.id())
    }

    /// Everything it has said so far.
    pub fn said(&self) -> Vec<String> {
        self.said.heard.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// Waits until it has said a line that contains `text`; the line.
    ///
    /// # Errors
    /// When the time is over or the program is, with what it has said instead.
    pub fn wait_for(&self, text: &str, within: Duration) -> Result<String, String> {
        let deadline = Instant::now() + within;
        let mut heard = self.said.heard.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = heard.lines.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match (heard.ended, left.is_zero()) {
                (2, _) => "and has ended".to_owned(),
                (_, true) => format!("within {within:?}"),
                _ => {
                    heard = self.said.more.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            };
            let instead = heard.lines.join("\n");
            return Err(format!("{} did not say {text:?} {why}; it said:\n{instead}", self.name));
        }
    }

    /// Asks it to end (SIGTERM), and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, within: Duration) -> Result<ExitStatus, String> {
        self.signal(Signal::SIGTERM)?;
        super::eventually(within, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("{} does not end", self.name)),
            Err(error) => Err(format!("wait for {}: {error}", self.name)),
        })
    }

    /// Ends it at once (SIGKILL), and waits.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|error| format!("kill {}: {error}", self.name))
    }

    /// Stops it where it is (SIGSTOP), until it is told to go on.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn go_on(&self) -> Result<(), String> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let id = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(id), signal).map_err(|errno| format!("send {signal} to {}: {errno}", self.name))
    }
}

/// The id outside of this world of the process with this id inside. The last of the ids in `NSpid` is the innermost
/// one (proc(5)); ours is the world with the same namespace of processes.
pub fn machine_id(inside: u32) -> Option<u32> {
    let machine = Path::new("/run/machine/proc");
    let world = fs::read_link(machine.join("self/ns/pid")).ok()?;
    let candidates = fs::read_dir(machine).ok()?.filter_map(Result::ok);
    let mut ids = candidates.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.find(|id| {
        let directory = machine.join(id.to_string());
        let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
        let innermost =
            status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok());
        innermost == Some(inside) && fs::read_link(directory.join("ns/pid")).is_ok_and(|namespace| namespace == world)
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    fn listen(self: Arc<Self>, stream: impl Read + Send + 'static) {
        thread::spawn(move || {
            let hear = |take: &mut dyn FnMut(&mut Heard)| {
                take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
                self.more.notify_all();
            };
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                hear(&mut |heard| heard.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            hear(&mut |heard| heard.ended += 1);
        });
    }
}
