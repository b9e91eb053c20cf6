//! One execution of another plugin: its input, its output, and the limits of both. It has a process group of its own, which
//! is ended as a whole.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How long it may take. Kubelet gives a runtime four minutes for a pod; an ADD that fails here is followed by a DEL, which may
/// take as long. Shorter in debug builds, for the scenes.
pub(super) const TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 90 });
/// How many bytes it may write to stdout, and to stderr.
pub(super) const OUTPUT: usize = 1 << 20;
/// How often it is looked at whether it has exited while another process keeps its output open.
const LOOK: Duration = Duration::from_millis(20);

/// What it has done.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    /// What it has said on stderr, whole.
    pub(super) log: Vec<u8>,
}

/// Why it was ended.
pub(super) enum Ended {
    /// It could not be executed, or a pipe failed.
    Failed(io::Error),
    /// It has taken longer than [`TIME`].
    TooLong,
    /// It has written more than [`OUTPUT`] bytes to this stream.
    TooMuch(&'static str),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Executes a program with an input, and waits until it has exited. What it leaves running in its group is ended.
pub(super) fn execute(program: &Path, verb: &str, input: &[u8]) -> Result<Finished, Ended> {
    let deadline = Instant::now() + TIME;
    let mut child = Command::new(program)
        .env("CNI_COMMAND", verb)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let exchanged = exchange(&mut child, input, deadline);
    // Before it is waited for: until then its id is not another's.
    if let Ok(group) = i32::try_from(child.id()) {
        // The group has gone, where nothing else is in it and it has exited.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let status = child.wait()?;
    let [output, log] = exchanged?;
    Ok(Finished { status, output, log })
}

/// Writes the input and reads both outputs, until they are closed or the child has exited.
fn exchange(child: &mut Child, input: &[u8], deadline: Instant) -> Result<[Vec<u8>; 2], Ended> {
    let broken = || io::Error::from(ErrorKind::BrokenPipe);
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &stdin {
        // The reading end is another's: it keeps blocking.
        fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
    }
    let mut rest = input;
    let (stdout, stderr) = (child.stdout.take().ok_or_else(broken)?, child.stderr.take().ok_or_else(broken)?);
    let mut streams: [(Option<Box<dyn Stream>>, &str); 2] =
        [(Some(Box::new(stdout)), "stdout"), (Some(Box::new(stderr)), "stderr")];
    let mut outputs = [Vec::new(), Vec::new()];
    while streams.iter().any(|(stream, _)| stream.is_some()) {
        if Instant::now() > deadline {
            return Err(Ended::TooLong);
        }
        let exited = has_exited(child)?;
        let mut waited: Vec<PollFd> =
            streams.iter().filter_map(|(stream, _)| stream.as_deref()).map(readable).collect();
        waited.extend(stdin.as_ref().map(|stdin| PollFd::new(stdin.as_fd(), PollFlags::POLLOUT)));
        let wait = if exited { PollTimeout::ZERO } else { PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO) };
        let ready = match poll(&mut waited, wait) {
            Err(nix::errno::Errno::EINTR) => 0,
            ready => ready.map_err(io::Error::from)?,
        };
        let events: Vec<bool> = waited.iter().map(|waited| waited.any().unwrap_or(true)).collect();
        let mut events = events.into_iter();
        for ((stream, name), output) in streams.iter_mut().zip(&mut outputs) {
            let Some(reader) = stream else { continue };
            if events.next() == Some(true) && !read_some(reader.as_mut(), output)? {
                *stream = None;
            }
            if output.len() > OUTPUT {
                return Err(Ended::TooMuch(name));
            }
        }
        if events.next() == Some(true) {
            write_some(&mut stdin, &mut rest);
        }
        // Another process has the pipes still, and nothing is in them.
        if exited && ready == 0 {
            break;
        }
    }
    // Outputs are closed at the exit, or shortly before.
    let mut pause = Duration::from_micros(50);
    while !has_exited(child)? {
        if Instant::now() > deadline {
            return Err(Ended::TooLong);
        }
        std::thread::sleep(pause);
        pause = LOOK.min(pause * 2);
    }
    Ok(outputs)
}

trait Stream: Read + AsFd {}
impl<T: Read + AsFd> Stream for T {}

fn readable(stream: &dyn Stream) -> PollFd<'_> {
    PollFd::new(stream.as_fd(), PollFlags::POLLIN)
}

/// Reads what is there. Returns whether there may be more.
fn read_some(reader: &mut dyn Stream, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    match reader.read(&mut buffer) {
        Ok(length) => {
            output.extend_from_slice(&buffer[..length]);
            Ok(length > 0)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}

/// Writes what fits, and closes the pipe behind the last byte. It may exit before it has read everything.
fn write_some(stdin: &mut Option<ChildStdin>, rest: &mut &[u8]) {
    let Some(pipe) = stdin else { return };
    match pipe.write(rest) {
        Ok(length) => *rest = &rest[length..],
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
        Err(_) => *rest = &[],
    }
    if rest.is_empty() {
        *stdin = None;
    }
}

/// Whether the child has exited; it is not waited for.
fn has_exited(child: &Child) -> io::Result<bool> {
    let id = Id::Pid(Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()));
    let status = waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)?;
    Ok(status != WaitStatus::StillAlive)
}
