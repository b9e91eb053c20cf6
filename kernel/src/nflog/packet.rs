//! The headers of a logged packet. It is what others have sent, and may be cut anywhere.

use std::net::IpAddr;

use crate::family::IpVersion;

/// `IPPROTO_*` (uapi/linux/in.h, in6.h): those whose header begins with two ports, and the extension headers of IPv6 that have a
/// length, in units of 8 bytes beyond the first; the authentication header counts by 4 bytes (RFC 4302, section 2.2).
const WITH_PORTS: [u8; 3] = [6, 17, 132];
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// The length of the fixed header of IPv6 (RFC 8200, section 3).
const HEADER6: usize = 40;

/// A packet, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedPacket {
    /// The word of the rule that has logged it.
    pub word: String,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// The protocol above IP (`IPPROTO_*`).
    pub protocol: u8,
    /// The source port and the destination port of TCP, UDP and SCTP; nothing for other protocols, later fragments, and where the
    /// packet is cut before them.
    pub ports: Option<(u16, u16)>,
}

impl LoggedPacket {
    /// Reads a packet from its IP header on.
    pub(super) fn parse(word: &str, bytes: &[u8]) -> Option<Self> {
        let (source, destination, (protocol, rest)) = match bytes.first()? >> 4 {
            4 => (address(bytes, 12, IpVersion::V4)?, address(bytes, 16, IpVersion::V4)?, above4(bytes)?),
            6 => (address(bytes, 8, IpVersion::V6)?, address(bytes, 24, IpVersion::V6)?, above6(bytes)?),
            _ => return None,
        };
        let port = |place| rest.and_then(|rest| short(rest, place)).filter(|_| WITH_PORTS.contains(&protocol));
        Some(Self { word: word.to_owned(), source, destination, protocol, ports: port(0).zip(port(2)) })
    }
}

/// The protocol above IPv4, and what stands behind the header, unless that is the middle of something.
fn above4(bytes: &[u8]) -> Option<(u8, Option<&[u8]>)> {
    let length = usize::from(bytes.first()? & 0xf) * 4;
    let is_first = short(bytes, 6)? & 0x1fff == 0;
    Some((*bytes.get(9)?, bytes.get(length..).filter(|_| is_first)))
}

/// The same of IPv6. Where the packet is cut within its extension headers, the one that is cut.
fn above6(bytes: &[u8]) -> Option<(u8, Option<&[u8]>)> {
    let (mut protocol, mut rest) = (*bytes.get(6)?, bytes.get(HEADER6..));
    while let Some(&[next, length, high, low, ..]) = rest {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(length) + 1) * 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            FRAGMENT if u16::from_be_bytes([high, low]) >> 3 != 0 => return Some((next, None)),
            FRAGMENT => 8,
            _ => break,
        };
        (protocol, rest) = (next, rest.and_then(|rest| rest.get(length..)));
    }
    Some((protocol, rest))
}

fn address(bytes: &[u8], place: usize, version: IpVersion) -> Option<IpAddr> {
    version.address(bytes.get(place..place + version.address_length())?)
}

/// A number of two bytes in network order.
fn short(bytes: &[u8], place: usize) -> Option<u16> {
    bytes.get(place..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports 0x0102 and 0x0304.
    const PORTS: [u8; 4] = [1, 2, 3, 4];

    fn four(protocol: u8, fragment: u16, options: usize, above: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x40 | u8::try_from(5 + options / 4).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(above);
        packet
    }

    fn six(next: u8, above: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; HEADER6];
        (packet[0], packet[6], packet[23], packet[39]) = (0x60, next, 1, 2);
        packet.extend(above);
        packet
    }

    type Read = (String, u8, Option<(u16, u16)>);

    fn read(bytes: &[u8]) -> Option<Read> {
        let LoggedPacket { source, destination, protocol, ports, .. } = LoggedPacket::parse("word", bytes)?;
        Some((format!("{source} {destination}"), protocol, ports))
    }

    #[test]
    fn addresses_protocol_and_ports_are_read_behind_options_and_extension_headers() {
        let (both, ports) = (|addresses: &str| addresses.to_owned(), Some((0x0102, 0x0304)));
        assert_eq!(read(&four(6, 0, 0, &PORTS)), Some((both("10.0.0.1 10.0.0.2"), 6, ports)));
        assert_eq!(read(&four(132, 0x4000, 8, &PORTS)), Some((both("10.0.0.1 10.0.0.2"), 132, ports)));
        assert_eq!(read(&six(17, &PORTS)), Some((both("::1 ::2"), 17, ports)));
        // Hop by hop of 8 bytes, destination options of 16, authentication of 12, a first fragment; then UDP.
        let extensions = [
            [[60, 0, 0, 0], [0; 4]].concat(),
            [[51, 1, 0, 0], [0; 4], [0; 4], [0; 4]].concat(),
            [[44, 1, 0, 0], [0; 4], [0; 4]].concat(),
            [[17, 0, 0, 1], [0; 4]].concat(),
            PORTS.to_vec(),
        ];
        assert_eq!(read(&six(0, &extensions.concat())), Some((both("::1 ::2"), 17, ports)));
    }

    #[test]
    fn what_has_no_ports_or_is_the_middle_of_something_has_none() {
        assert_eq!(read(&four(1, 0, 0, &PORTS)).unwrap().2, None);
        assert_eq!(read(&four(6, 1, 0, &PORTS)).unwrap().2, None, "a later fragment");
        assert_eq!(read(&six(58, &PORTS)).unwrap().2, None);
        let later = [[17, 0, 0, 8], [0; 4], PORTS].concat();
        assert_eq!(read(&six(44, &later)).map(|(_, protocol, ports)| (protocol, ports)), Some((17, None)));
    }

    #[test]
    fn a_packet_that_is_cut_anywhere_is_read_as_far_as_it_goes() {
        let whole =
            [four(6, 0, 4, &PORTS), six(0, &[[17, 0, 0, 0], [0; 4], PORTS].concat()), vec![0x50; 64], Vec::new()];
        for packet in whole {
            for end in 0..packet.len() {
                let cut = read(&packet[..end]);
                assert!(cut.is_none_or(|(_, _, ports)| ports.is_none()), "{end} of {packet:?}");
            }
        }
        assert_eq!(read(&four(6, 0, 0, &PORTS[..3])).map(|(_, protocol, _)| protocol), Some(6));
        assert_eq!(read(&[0x50; 64]), None);
    }
}
