//! ICMP echo, IPv4 and IPv6: the raw sockets that send requests and hear what comes back. `packet` has the bytes, `filter`
//! what the kernel lets through to us, `waiting` which requests are still to be answered, `echo` the values. Nothing outside
//! knows ICMP. What may not live here: when a probe is sent, and what an answer means.
//!
//! An answer is believed if it comes from the address that was asked, while the request waits, with the request's proof:
//! random bytes, which nobody knows who has not seen the request.

mod echo;
mod filter;
mod packet;
mod waiting;

use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, recvfrom,
    sendto, socket,
};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::SockRef;

pub use echo::{Echo, Heard};
pub use packet::smallest;
use waiting::Waiting;

/// The sockets of one family: one that sends whole packets, one that hears ICMP. Neither blocks.
pub struct Echoer {
    sender: OwnedFd,
    listener: OwnedFd,
    /// Random, so that others seldom have it, and cannot choose it.
    identifier: u16,
    waiting: Mutex<Waiting>,
}

impl Echoer {
    /// Opens the sockets of the family of `like`.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` there are no raw sockets; or the kernel has no random bytes, or refuses the filter.
    pub fn open(like: IpAddr) -> io::Result<Self> {
        let (family, protocol, name) = match like {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, "ICMP"),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, "ICMPv6"),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = |protocol| {
            socket(family, SockType::Raw, flags, protocol).map_err(|errno| {
                let hint = if errno == Errno::EPERM { ": it needs CAP_NET_RAW" } else { "" };
                let error = io::Error::from(errno);
                io::Error::new(error.kind(), format!("open a raw {name} socket: {error}{hint}"))
            })
        };
        let identifier = u16::from_be_bytes(random()?);
        let (sender, listener) = (open(SockProtocol::Raw)?, open(protocol)?);
        // What is measured is the path, not what the kernel has been told about it: a path MTU that it has learned, rightly
        // or not, does not limit what is sent (ip(7), `IP_MTU_DISCOVER`).
        match like {
            IpAddr::V4(_) => sockopt::set_ip_mtu_discover(&sender, Ipv4PathMtuDiscovery::PROBE)?,
            IpAddr::V6(_) => sockopt::set_ipv6_mtu_discover(&sender, Ipv6PathMtuDiscovery::PROBE)?,
        }
        let filter = if like.is_ipv4() { filter::ipv4(identifier) } else { filter::ipv6(identifier) };
        SockRef::from(&listener)
            .attach_filter(&filter)
            .map_err(|error| io::Error::new(error.kind(), format!("filter what a raw {name} socket hears: {error}")))?;
        Ok(Self { sender, listener, identifier, waiting: Mutex::default() })
    }

    /// Sends a request, which waits for its answer from then on. That it cannot be sent (no route, too large for the device)
    /// is an error like any other.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, echo: &Echo) -> io::Result<()> {
        let proof = random()?;
        let packet = packet::write(echo, self.identifier, proof);
        let sender = self.sender.as_raw_fd();
        // Before it is sent: the answer may be there sooner than this thread goes on.
        self.with(|waiting| waiting.enter(Instant::now(), echo.number, echo.destination, proof));
        match echo.destination {
            IpAddr::V4(to) => sendto(sender, &packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty()),
            IpAddr::V6(to) => {
                sendto(sender, &packet, &SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0)), MsgFlags::empty())
            }
        }?;
        Ok(())
    }

    /// What was heard next about a request that waits; `None` when nothing is there to be heard.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hear(&self) -> io::Result<Option<Heard>> {
        // The head of a packet says it all.
        let mut packet = [0; 256];
        loop {
            let (length, from) = match recvfrom::<SockaddrStorage>(self.listener.as_raw_fd(), &mut packet) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let said = match from.as_ref().and_then(SockaddrStorage::as_sockaddr_in6) {
                Some(from) => packet::parse6(from.ip(), &packet[..length]),
                None => packet::parse4(&packet[..length]),
            };
            let ours = said.filter(|said| said.identifier == self.identifier);
            let heard = ours.and_then(|said| self.with(|waiting| waiting.heard(Instant::now(), &said)));
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Waiting) -> T) -> T {
        work(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Echoer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::getrandom(&mut bytes).map_err(|error| io::Error::other(format!("get random bytes: {error}")))?;
    Ok(bytes)
}

/// Waits until something can be heard by one of them, or the time is over; without a limit for ever.
///
/// # Errors
/// The kernel's.
pub fn wait<'a>(echoers: impl IntoIterator<Item = &'a Echoer>, limit: Option<Duration>) -> io::Result<()> {
    let mut descriptors: Vec<_> =
        echoers.into_iter().map(|echoer| PollFd::new(echoer.as_fd(), PollFlags::POLLIN)).collect();
    let limit = limit
        .map_or(PollTimeout::NONE, |limit| PollTimeout::from(u16::try_from(limit.as_millis() + 1).unwrap_or(u16::MAX)));
    match poll(&mut descriptors, limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
