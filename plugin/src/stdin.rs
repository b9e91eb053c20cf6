//! Standard input, which nobody waits for endlessly.

use std::io::{self, Read, StdinLock};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a verb that can do without it waits for the next bytes. Runtimes write at once, but some leave the pipe open and
/// write nothing.
const OPTIONAL: Duration = Duration::from_millis(50);
/// How long the other verbs wait for all of it. Shorter in debug builds, for the scenes.
const WHOLE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 30 });

/// Standard input with a limit of time.
pub struct WithTimeout<'a> {
    stdin: StdinLock<'a>,
    limit: Limit,
}

enum Limit {
    /// It ends when nothing comes for a while.
    Pause,
    /// It fails after this time.
    Until(Instant),
}

impl<'a> WithTimeout<'a> {
    /// For a verb that can do without it: it ends when nothing comes for 50 ms.
    pub fn optional(stdin: StdinLock<'a>) -> Self {
        Self { stdin, limit: Limit::Pause }
    }

    /// For the other verbs: reading fails (`TimedOut`) when it has not ended within 30 s.
    pub fn whole(stdin: StdinLock<'a>) -> Self {
        Self { stdin, limit: Limit::Until(Instant::now() + WHOLE) }
    }
}

impl Read for WithTimeout<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wait = match self.limit {
            Limit::Pause => OPTIONAL,
            Limit::Until(end) => end.saturating_duration_since(Instant::now()),
        };
        let mut descriptors = [PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) if matches!(self.limit, Limit::Pause) => Ok(0),
            Ok(0) => {
                let limit = WHOLE.as_secs();
                let why =
                    format!("it was not closed within {limit} s: a runtime writes the configuration, and closes it");
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
            Ok(_) => self.stdin.read(buffer),
            Err(Errno::EINTR) => Err(io::ErrorKind::Interrupted.into()),
            Err(errno) => Err(errno.into()),
        }
    }
}
