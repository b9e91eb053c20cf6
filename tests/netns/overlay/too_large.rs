//! ICMP errors by which a packet was too large, written by hand: "fragmentation needed" (RFC 792) and "packet too big"
//! (RFC 4443), with whatever packet they quote.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto, socket,
};
use podwire_tests::lab::frame::checksum;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::Outcome;

/// `IPPROTO_*`.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const GRE: u8 = 47;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// A packet that is quoted, to the first bytes above IP, and what it is.
pub(crate) struct Quoted {
    pub(crate) what: &'static str,
    packet: Vec<u8>,
    /// Whether the error is sent in two fragments, of which the first has no more than the header of ICMP.
    in_fragments: bool,
    pub(crate) is_tcp: bool,
}

/// Packets of all kinds from one address to another.
pub(crate) fn quotes(from: IpAddr, to: IpAddr) -> Vec<Quoted> {
    let vxlan = [&[0xc0, 0x01, 0x21, 0x18, 0x05, 0xb0, 0, 0][..], &[8, 0, 0, 0, 0, 0, 1, 0]].concat();
    let datagram = [0x23, 0x28, 0x23, 0x28, 0x05, 0xb0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let echo = |kind: u8| vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let segment = [0x23, 0x28, 0x23, 0x28, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff];
    let quoted = |what, protocol, before: &[u8], above: &[u8]| Quoted {
        what,
        packet: packet(from, to, protocol, before, above),
        in_fragments: false,
        is_tcp: protocol == TCP,
    };
    let mut quotes = vec![
        quoted("the overlay", UDP, &[], &vxlan),
        quoted("a datagram", UDP, &[], &datagram),
        quoted("GRE", GRE, &[], &[0; 16]),
        quoted("TCP", TCP, &[], &segment),
    ];
    if from.is_ipv4() {
        quotes.extend([
            quoted("the overlay, behind an option", UDP, &[1, 1, 1, 0], &vxlan),
            quoted("an echo", ICMP, &[], &echo(8)),
            quoted("an answer to an echo", ICMP, &[], &echo(0)),
        ]);
    } else {
        let header = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let mut cut = quoted("the overlay, in fragments", UDP, &[], &vxlan);
        cut.in_fragments = true;
        quotes.extend([
            quoted("the overlay, behind options", DESTINATION_OPTIONS, &header(UDP), &vxlan),
            quoted("the overlay, in a fragment", FRAGMENT, &[UDP, 0, 0, 1, 0, 0, 0, 1], &vxlan),
            quoted("an echo", ICMPV6, &[], &echo(128)),
            quoted("an answer to an echo", ICMPV6, &[], &echo(129)),
            cut,
        ]);
    }
    quotes
}

/// Sends the error from an address of a host to another address: the link takes `mtu` bytes.
pub(crate) fn send(host: &Host, from: IpAddr, to: IpAddr, mtu: u16, quoted: &Quoted) -> Outcome {
    let (protocol, mut error) = match from {
        IpAddr::V4(_) => (ICMP, [&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes()].concat()),
        IpAddr::V6(_) => (ICMPV6, [&[2, 0, 0, 0, 0, 0][..], &mtu.to_be_bytes()].concat()),
    };
    error.extend(&quoted.packet);
    let length = u16::try_from(error.len()).unwrap();
    let pseudo = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            [&from.octets()[..], &to.octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, ICMPV6]].concat()
        }
        _ => Vec::new(),
    };
    let sum = checksum(&[&pseudo[..], &error].concat());
    error[2..4].copy_from_slice(&sum);
    let packets = match quoted.in_fragments {
        false => vec![packet(from, to, protocol, &[], &error)],
        true => [(0, 1, &error[..8]), (8, 0, &error[8..])]
            .map(|(offset, more, part)| {
                let place = u16::to_be_bytes(offset | more);
                packet(from, to, FRAGMENT, &[protocol, 0, place[0], place[1], 0, 0, 0, 7], part)
            })
            .to_vec(),
    };
    packets.iter().try_for_each(|packet| send_whole(host, to, packet))
}

/// An IP packet: IPv4 with options, IPv6 with extension headers, where there are any.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, before: &[u8], above: &[u8]) -> Vec<u8> {
    let length = before.len() + above.len();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let words = u8::try_from(5 + before.len() / 4).unwrap();
            let length = u16::try_from(20 + length).unwrap().to_be_bytes();
            let mut header = vec![0x40 | words, 0, length[0], length[1], 0, 1, 0x40, 0, 64, protocol, 0, 0];
            header.extend([from.octets(), to.octets()].concat());
            header.extend(before);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            [&header, above].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(length).unwrap().to_be_bytes();
            let header = [0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            [&header[..], &from.octets(), &to.octets(), before, above].concat()
        }
        _ => panic!("two families"),
    }
}

fn send_whole(host: &Host, to: IpAddr, packet: &[u8]) -> Outcome {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let sent = host.enter(|| {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
        match to {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
        }
    });
    sent.map(drop).map_err(|errno| format!("send from {} to {to}: {errno}", host.name))
}
