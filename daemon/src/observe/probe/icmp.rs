//! ICMP echo, IPv4 and IPv6: the packets, and the raw sockets that send and hear them. The only file that knows ICMP.
//!
//! Whole packets are written, IP header included: so the source can be chosen, and no router may fragment a packet (DF; in
//! IPv6 none may anyway).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto, socket,
};

/// The header of an echo (RFC 792, RFC 4443): type, code, checksum, identifier, number.
const ICMP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TTL: u8 = 64;

/// An echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// The source.
    pub source: IpAddr,
    /// The destination, of the same family.
    pub destination: IpAddr,
    /// Which program of this host sends it.
    pub identifier: u16,
    /// Which of its requests it is.
    pub number: u16,
    /// The size of the IP packet in bytes, at least [`smallest`].
    pub size: usize,
}

/// What was received for an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was answered.
    Answer {
        /// Which program's request it was.
        identifier: u16,
        /// Which one.
        number: u16,
    },
    /// It was too large for a link on the path (RFC 1191, RFC 8201).
    TooLarge {
        /// Which program's request it was.
        identifier: u16,
        /// Which one.
        number: u16,
        /// What the link takes, in bytes; 0 where the router does not say.
        mtu: u32,
    },
}

/// The size of the smallest echo of a family, in bytes.
pub fn smallest(like: IpAddr) -> usize {
    ICMP_HEADER + if like.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER }
}

impl Echo {
    /// The IP packet; nothing where the two addresses are not of one family.
    fn packet(&self) -> Vec<u8> {
        let size = self.size.clamp(smallest(self.destination), usize::from(u16::MAX));
        let (mut packet, kind, pseudo) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => (ipv4(source, destination, size), 8, Vec::new()),
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let pseudo = [&source.octets()[..], &destination.octets(), &[0, 0], &length(size - IPV6_HEADER)];
                (ipv6(source, destination, size), 128, [pseudo.concat(), vec![0, 0, 0, ICMPV6]].concat())
            }
            _ => return Vec::new(),
        };
        let start = packet.len();
        packet.extend([kind, 0, 0, 0]);
        packet.extend(self.identifier.to_be_bytes());
        packet.extend(self.number.to_be_bytes());
        packet.resize(size, 0);
        let sum = checksum(&[&pseudo, &packet[start..]]);
        packet[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
        packet
    }
}

/// Everything of the header but the checksum and the number of the packet, which the kernel fills in (raw(7)).
fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, size: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(length(size));
    // Its number, and "don't fragment".
    header.extend([0, 0, 0x40, 0, TTL, ICMP, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, size: usize) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length(size - IPV6_HEADER));
    header.extend([ICMPV6, TTL]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

/// A length in network order: packets are no larger than can be written there.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// RFC 1071. Every part but the last is of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// What an ICMP packet of IPv4 says, its IP header before it.
fn parse4(packet: &[u8]) -> Option<Heard> {
    let icmp = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
    match (icmp.first()?, icmp.get(1)?) {
        (0, _) => answer(icmp),
        // "Fragmentation needed", with the head of the packet that it is about.
        (3, 4) => {
            let about = icmp.get(ICMP_HEADER..)?;
            let inner = about.get(usize::from(about.first()? & 0xf) * 4..)?;
            let mtu = u16::from_be_bytes(icmp.get(6..8)?.try_into().ok()?);
            (about.get(9) == Some(&ICMP) && inner.first() == Some(&8)).then(|| too_large(inner, mtu.into()))?
        }
        _ => None,
    }
}

/// What an ICMPv6 packet says.
fn parse6(icmp: &[u8]) -> Option<Heard> {
    match icmp.first()? {
        129 => answer(icmp),
        2 => {
            let about = icmp.get(ICMP_HEADER..)?;
            let inner = about.get(IPV6_HEADER..)?;
            let mtu = u32::from_be_bytes(icmp.get(4..8)?.try_into().ok()?);
            (about.get(6) == Some(&ICMPV6) && inner.first() == Some(&128)).then(|| too_large(inner, mtu))?
        }
        _ => None,
    }
}

fn answer(icmp: &[u8]) -> Option<Heard> {
    let (identifier, number) = names(icmp)?;
    Some(Heard::Answer { identifier, number })
}

fn too_large(icmp: &[u8], mtu: u32) -> Option<Heard> {
    let (identifier, number) = names(icmp)?;
    Some(Heard::TooLarge { identifier, number, mtu })
}

fn names(icmp: &[u8]) -> Option<(u16, u16)> {
    let number = |place: usize| Some(u16::from_be_bytes(icmp.get(place..place + 2)?.try_into().ok()?));
    Some((number(4)?, number(6)?))
}

/// The sockets of one family: one that sends whole packets, one that hears ICMP. Neither blocks.
pub struct Echoer {
    sender: OwnedFd,
    listener: OwnedFd,
    ipv4: bool,
}

impl Echoer {
    /// Opens the sockets of the family of `like`.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` there are no raw sockets.
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
        Ok(Self { sender: open(SockProtocol::Raw)?, listener: open(protocol)?, ipv4: like.is_ipv4() })
    }

    /// Sends a request. That it cannot be sent (no route, too large for the device) is an error like any other.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, echo: &Echo) -> io::Result<()> {
        let packet = echo.packet();
        let sender = self.sender.as_raw_fd();
        match echo.destination {
            IpAddr::V4(to) => sendto(sender, &packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty()),
            IpAddr::V6(to) => {
                sendto(sender, &packet, &SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0)), MsgFlags::empty())
            }
        }?;
        Ok(())
    }

    /// What was heard next that is about an echo; `None` when nothing waits.
    ///
    /// # Errors
    /// The kernel's.
    pub fn hear(&self) -> io::Result<Option<Heard>> {
        // The head of a packet says it all.
        let mut packet = [0; 256];
        loop {
            let heard = match recv(self.listener.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                Ok(length) if self.ipv4 => parse4(&packet[..length]),
                Ok(length) => parse6(&packet[..length]),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }
}

impl AsFd for Echoer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(source: &str, destination: &str, size: usize) -> Echo {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Echo { source, destination, identifier: 0x1234, number: 7, size }
    }

    #[test]
    fn a_packet_has_its_size_and_a_checksum_that_holds() {
        for (size, written) in [(0, 28), (29, 29), (1500, 1500)] {
            let packet = echo("10.0.0.1", "10.0.0.2", size).packet();
            assert_eq!((packet.len(), usize::from(u16::from_be_bytes([packet[2], packet[3]]))), (written, written));
            assert_eq!(checksum(&[&packet[20..]]), 0);
            assert_eq!((packet[6], packet[20]), (0x40, 8), "it may not be taken apart");
        }
        let packet = echo("fd00::1", "fd00::2", 1281).packet();
        assert_eq!((packet.len(), usize::from(u16::from_be_bytes([packet[4], packet[5]]))), (1281, 1241));
        let pseudo = [&packet[8..40], &[0, 0, 0x04, 0xd9, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo, &packet[40..]]), 0);
        assert!(echo("10.0.0.1", "fd00::2", 100).packet().is_empty());
    }

    #[test]
    fn replies_and_icmp_errors_are_distinguished_from_all_else() {
        let packet = echo("10.0.0.1", "10.0.0.2", 60).packet();
        assert_eq!(parse4(&packet), None, "a question is no answer");
        let mut answered = packet.clone();
        answered[20] = 0;
        assert_eq!(parse4(&answered), Some(Heard::Answer { identifier: 0x1234, number: 7 }));
        // From a router: an IP header with options, ICMP 3/4 with the MTU, and the head of the packet.
        let mut complaint = vec![0x46; 24];
        complaint.extend([3, 4, 0, 0, 0, 0, 0x05, 0x78]);
        complaint.extend(&packet[..28]);
        let too_large = Heard::TooLarge { identifier: 0x1234, number: 7, mtu: 1400 };
        assert_eq!(parse4(&complaint), Some(too_large));
        for cut in 0..complaint.len() {
            assert_eq!(parse4(&complaint[..cut]), None, "{cut}");
        }
        let packet = echo("fd00::1", "fd00::2", 60).packet();
        let mut answered = packet[40..].to_vec();
        assert_eq!(parse6(&answered), None);
        answered[0] = 129;
        assert_eq!(parse6(&answered), Some(Heard::Answer { identifier: 0x1234, number: 7 }));
        let complaint = [&[2, 0, 0, 0, 0, 0, 0x05, 0x78], &packet[..48]].concat();
        assert_eq!(parse6(&complaint), Some(too_large));
        for cut in 0..complaint.len() {
            assert_eq!(parse6(&complaint[..cut]), None, "{cut}");
        }
    }
}
