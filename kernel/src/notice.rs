//! The kernel's announcements that something changed: when to look again, never what to believe. What changed is told by
//! a fresh dump.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Error, Result};

/// Multicast groups of uapi/linux/rtnetlink.h (`RTNLGRP_*`): links, neighbours, addresses, routes, per-device
/// settings, nexthops, VNI filters.
const ROUTE_GROUPS: [u32; 10] = [1, 3, 5, 7, 9, 11, 24, 25, 32, 35];

/// `NFNLGRP_NFTABLES` of uapi/linux/netfilter/nfnetlink.h.
const NFTABLES_GROUPS: [u32; 1] = [7];

/// The kernel's notices of links, addresses, routes, neighbours, nexthops and nftables, in the namespace they were
/// opened in.
pub struct Notices {
    sockets: [netlink_sys::Socket; 2],
}

impl Notices {
    /// Starts to listen: what changes from now on will be noticed.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn open() -> Result<Self> {
        let open = |protocol, groups: &[u32]| -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            for group in groups {
                match socket.add_membership(*group) {
                    // A group that an older kernel does not have announces nothing there either.
                    Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
                    other => other?,
                }
            }
            Ok(socket)
        };
        let both = || Ok([open(NETLINK_ROUTE, &ROUTE_GROUPS)?, open(NETLINK_NETFILTER, &NFTABLES_GROUPS)?]);
        both()
            .map(|sockets| Self { sockets })
            .map_err(|error: io::Error| Error::system("listen to kernel notices", error))
    }

    /// Blocks until there is a notice, and throws away all that wait.
    ///
    /// # Errors
    /// When the sockets cannot be waited for or read.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            let mut descriptors = self.sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            match poll(&mut descriptors, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let mut any = false;
            for socket in &self.sockets {
                any |= drain(socket)?;
            }
            if any {
                return Ok(());
            }
        }
    }
}

/// Whether there was anything. Lost notices (ENOBUFS) count: they too mean "look again".
fn drain(socket: &netlink_sys::Socket) -> io::Result<bool> {
    let mut any = false;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => any = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => any = true,
            Err(error) => return Err(error),
        }
    }
}
