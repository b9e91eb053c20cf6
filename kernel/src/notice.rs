//! The kernel's announcements that something changed: when to look again, never what to believe. What changed is told by
//! a fresh dump.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;

use crate::{Error, Result};

/// Multicast groups of uapi/linux/rtnetlink.h (`RTNLGRP_*`): links, neighbours, addresses, routes, per-device
/// settings, nexthops, VNI filters.
const ROUTE_GROUPS: [u32; 10] = [1, 3, 5, 7, 9, 11, 24, 25, 32, 35];

/// `NFNLGRP_NFTABLES` of uapi/linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 7;

/// Notices of one kind, in the namespace they were opened in.
pub struct Notices {
    socket: netlink_sys::Socket,
}

impl Notices {
    /// Notices of links, addresses, routes, neighbours and nexthops.
    pub fn route() -> Result<Self> {
        Self::open(NETLINK_ROUTE, &ROUTE_GROUPS)
    }

    /// Notices of nftables.
    pub fn nftables() -> Result<Self> {
        Self::open(NETLINK_NETFILTER, &[NFTABLES_GROUP])
    }

    fn open(protocol: isize, groups: &[u32]) -> Result<Self> {
        let open = || -> io::Result<netlink_sys::Socket> {
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
        Ok(Self { socket: open().map_err(|error| Error::system("listen to kernel notices", error))? })
    }

    /// Throws away all notices that wait, and says whether there were any. Lost ones (ENOBUFS) count: they too mean
    /// "look again".
    pub fn drain(&self) -> io::Result<bool> {
        let mut any = false;
        let mut buffer = Vec::with_capacity(16 * 1024);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => any = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => any = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Notices {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
