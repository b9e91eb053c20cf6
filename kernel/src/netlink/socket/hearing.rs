//! What the kernel sends without being asked, to a socket that has asked for it once.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::NetlinkDeserializable;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;

use crate::netlink::error::{Error, Result};
use crate::netlink::reply;
use crate::netlink::socket::Socket;

/// Datagrams that are read at once.
const AT_ONCE: usize = 64;

impl Socket {
    /// The messages of a type that come within a time: as soon as there are any, those that are there. That some were lost for want of
    /// room is no error: who has to know numbers them.
    ///
    /// # Errors
    /// When the socket cannot be waited for or read, or a message cannot be parsed.
    pub(crate) fn hear<T: NetlinkDeserializable>(
        &mut self,
        operation: &str,
        kind: u16,
        within: Duration,
    ) -> Result<Vec<T>> {
        let failed = |errno: Errno| Error::system(operation, std::io::Error::from(errno));
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) | Ok(0) => return Ok(Vec::new()),
            ready => ready.map_err(failed)?,
        };
        let mut heard = Vec::new();
        for _ in 0..AT_ONCE {
            self.received.clear();
            match self.socket.recv(&mut self.received, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => continue,
                Err(error) => return Err(Error::system(operation, error)),
            }
            let messages = reply::of_datagram(operation, &self.received)?;
            for message in messages.iter().filter(|message| message.kind == kind) {
                heard.push(reply::parse(operation, message.bytes)?);
            }
        }
        Ok(heard)
    }
}
