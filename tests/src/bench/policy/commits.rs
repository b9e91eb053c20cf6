//! What the kernel tells of committed transactions of nftables, as another program hears it. The elements are in force by then.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use podwire_tests::lab::host::Host;

/// `NFNLGRP_NFTABLES` of uapi/linux/netfilter/nfnetlink.h, as a bit.
const GROUP: u32 = 1 << 6;

/// The room for what is told: a policy of thousands of elements is.
const ROOM: usize = 32 * 1024 * 1024;

/// How long something may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener in a host's network.
#[derive(Debug)]
pub(crate) struct Commits(OwnedFd);

impl Commits {
    /// Listens from now on.
    ///
    /// # Errors
    /// What was refused.
    pub(crate) fn listen(host: &Host) -> Result<Self, String> {
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
            setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
            Ok(socket)
        };
        host.enter(open).map(Self).map_err(|error| format!("listen to nftables on {}: {error}", host.name))
    }

    /// Forgets what has been told so far.
    pub(crate) fn drain(&self) {
        let mut buffer = vec![0; 64 * 1024];
        while recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok_and(|count| count > 0) {}
    }

    /// When a change was told that has this address in it.
    ///
    /// # Errors
    /// When none is.
    pub(crate) fn wait_for(&self, address: IpAddr) -> Result<Instant, String> {
        let wanted = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 64 * 1024];
        while Instant::now() < deadline {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(count) => {
                    let now = Instant::now();
                    let told = buffer.get(..count).unwrap_or_default();
                    if told.windows(wanted.len()).any(|part| part == wanted) {
                        return Ok(now);
                    }
                }
                Err(Errno::EAGAIN) => {
                    let mut one = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
                    poll(&mut one, PollTimeout::from(1000_u16))
                        .map_err(|error| format!("wait for nftables: {error}"))?;
                }
                Err(error) => return Err(format!("hear of nftables: {}", io::Error::from(error))),
            }
        }
        Err(format!("no change of {address} was told within {PATIENCE:?}"))
    }
}
