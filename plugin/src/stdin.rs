//! Standard input, for a verb that must not wait for it.

use std::io::{self, Read, StdinLock};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long to wait for the next bytes. Runtimes write at once, but some leave the pipe open and write nothing.
const TIMEOUT_MILLISECONDS: u8 = 50;

/// Standard input that ends when nothing comes for a while.
pub struct WithTimeout<'a>(pub StdinLock<'a>);

impl Read for WithTimeout<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut descriptors = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, PollTimeout::from(TIMEOUT_MILLISECONDS)) {
            Ok(0) => Ok(0),
            Ok(_) => self.0.read(buffer),
            Err(Errno::EINTR) => Err(io::ErrorKind::Interrupted.into()),
            Err(errno) => Err(errno.into()),
        }
    }
}
