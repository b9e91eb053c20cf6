//! The bytes of an echo request, and what an ICMP packet says of one. Pure.
//!
//! Whole packets are written, IP header included: so the source can be chosen, and no router may fragment a packet (DF; in
//! IPv6 none may anyway).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::echo::{Echo, Proof};

/// The header of an echo (RFC 792, RFC 4443): type, code, checksum, identifier, number.
const ICMP_HEADER: usize = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TTL: u8 = 64;

/// What an ICMP packet says of an echo request that is known by these: whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    /// Where the request went to: the source of an answer; where a router complains, the destination that it quotes.
    pub(super) destination: IpAddr,
    /// The identifier of the socket that sent it.
    pub(super) identifier: u16,
    /// Which of its requests it is.
    pub(super) number: u16,
    /// What is behind the header.
    pub(super) proof: Proof,
    /// Whether it was answered. Otherwise it was too large for a link on the path (RFC 1191, RFC 8201).
    pub(super) answered: bool,
}

/// The size of the smallest echo of a family, in bytes.
pub fn smallest(like: IpAddr) -> usize {
    ICMP_HEADER + size_of::<Proof>() + if like.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER }
}

/// The IP packet of a request; nothing where the two addresses are not of one family.
pub(super) fn write(echo: &Echo, identifier: u16, proof: Proof) -> Vec<u8> {
    let size = echo.size.clamp(smallest(echo.destination), usize::from(u16::MAX));
    let (mut packet, kind, pseudo) = match (echo.source, echo.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (ipv4(source, destination, size), 8, Vec::new()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let pseudo = [&source.octets()[..], &destination.octets(), &[0, 0], &length(size - IPV6_HEADER)];
            (ipv6(source, destination, size), 128, [pseudo.concat(), vec![0, 0, 0, ICMPV6]].concat())
        }
        _ => return Vec::new(),
    };
    let start = packet.len();
    packet.extend([kind, 0, 0, 0]);
    packet.extend(identifier.to_be_bytes());
    packet.extend(echo.number.to_be_bytes());
    packet.extend(proof);
    packet.resize(size, 0);
    let sum = checksum(&[&pseudo, &packet[start..]]);
    packet[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
    packet
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
pub(super) fn parse4(packet: &[u8]) -> Option<Said> {
    let icmp = behind_ipv4(packet)?;
    match (icmp.first()?, icmp.get(1)?) {
        (0, _) => said(ipv4_at(packet, 12)?.into(), icmp, true),
        // "Fragmentation needed", with the head of the packet that it is about.
        (3, 4) => {
            let about = icmp.get(ICMP_HEADER..)?;
            let inner = behind_ipv4(about)?;
            let ours = about.get(9) == Some(&ICMP) && inner.first() == Some(&8);
            said(ipv4_at(about, 16)?.into(), inner, false).filter(|_| ours)
        }
        _ => None,
    }
}

/// What an ICMPv6 packet from this source says.
pub(super) fn parse6(source: Ipv6Addr, icmp: &[u8]) -> Option<Said> {
    match icmp.first()? {
        129 => said(source.into(), icmp, true),
        2 => {
            let about = icmp.get(ICMP_HEADER..)?;
            let inner = about.get(IPV6_HEADER..)?;
            let ours = about.get(6) == Some(&ICMPV6) && inner.first() == Some(&128);
            let destination: [u8; 16] = about.get(24..IPV6_HEADER)?.try_into().ok()?;
            said(Ipv6Addr::from(destination).into(), inner, false).filter(|_| ours)
        }
        _ => None,
    }
}

/// What follows an IPv4 header, options included.
fn behind_ipv4(packet: &[u8]) -> Option<&[u8]> {
    packet.get(usize::from(packet.first()? & 0xf) * 4..)
}

fn ipv4_at(packet: &[u8], place: usize) -> Option<Ipv4Addr> {
    let address: [u8; 4] = packet.get(place..place + 4)?.try_into().ok()?;
    Some(address.into())
}

/// Of a router's complaint, too, the proof is wanted: one that quotes less than that counts as silence.
fn said(destination: IpAddr, icmp: &[u8], answered: bool) -> Option<Said> {
    let number = |place: usize| Some(u16::from_be_bytes(icmp.get(place..place + 2)?.try_into().ok()?));
    let proof = icmp.get(ICMP_HEADER..)?.first_chunk().copied()?;
    Some(Said { destination, identifier: number(4)?, number: number(6)?, proof, answered })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROOF: Proof = [7; 16];

    fn packet(source: &str, destination: &str, size: usize) -> Vec<u8> {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        write(&Echo { source, destination, number: 7, size }, 0x1234, PROOF)
    }

    fn about(destination: &str, answered: bool) -> Option<Said> {
        let destination = destination.parse().unwrap();
        Some(Said { destination, identifier: 0x1234, number: 7, proof: PROOF, answered })
    }

    #[test]
    fn a_packet_has_its_size_and_a_checksum_that_holds() {
        for (size, written) in [(0, 44), (45, 45), (1500, 1500)] {
            let packet = packet("10.0.0.1", "10.0.0.2", size);
            assert_eq!((packet.len(), usize::from(u16::from_be_bytes([packet[2], packet[3]]))), (written, written));
            assert_eq!(checksum(&[&packet[20..]]), 0);
            assert_eq!((packet[6], packet[20]), (0x40, 8), "it may not be taken apart");
        }
        let six = packet("fd00::1", "fd00::2", 1281);
        assert_eq!((six.len(), usize::from(u16::from_be_bytes([six[4], six[5]]))), (1281, 1241));
        let pseudo = [&six[8..40], &[0, 0, 0x04, 0xd9, 0, 0, 0, 58]].concat();
        assert_eq!(checksum(&[&pseudo, &six[40..]]), 0);
        assert!(packet("10.0.0.1", "fd00::2", 100).is_empty());
    }

    #[test]
    fn replies_and_icmp_errors_are_distinguished_from_all_else() {
        let asked = packet("10.0.0.1", "10.0.0.2", 60);
        assert_eq!(parse4(&asked), None, "a question is no answer");
        // An answer is about the address that it comes from.
        let mut answered = asked.clone();
        (answered[15], answered[19], answered[20]) = (9, 1, 0);
        assert_eq!(parse4(&answered), about("10.0.0.9", true));
        // From a router: an IP header with options, ICMP 3/4 with the MTU, and the head of the packet.
        let mut complaint = vec![0x46; 24];
        complaint.extend([3, 4, 0, 0, 0, 0, 0x05, 0x78]);
        complaint.extend(&asked[..44]);
        assert_eq!(parse4(&complaint), about("10.0.0.2", false));
        for cut in 0..complaint.len() {
            assert_eq!(parse4(&complaint[..cut]), None, "{cut}");
        }
        let asked = packet("fd00::1", "fd00::2", 64);
        let mut answered = asked[40..].to_vec();
        let from = "fd00::9".parse().unwrap();
        assert_eq!(parse6(from, &answered), None);
        answered[0] = 129;
        assert_eq!(parse6(from, &answered), about("fd00::9", true));
        let complaint = [&[2, 0, 0, 0, 0, 0, 0x05, 0x78], &asked[..64]].concat();
        assert_eq!(parse6(from, &complaint), about("fd00::2", false));
        for cut in 0..complaint.len() {
            assert_eq!(parse6(from, &complaint[..cut]), None, "{cut}");
        }
    }
}
