//! A conntrack entry as a value: read in place from a message of the kernel or from a line of its text, and its deletion.
//!
//! Reading in place matters: the types of `netlink-packet-netfilter` take 5 µs for each of 100,000 entries.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DecodeError, DefaultNla, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::conntrack::{ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple};

use crate::conntrack::message::{DELETE, NEW, ORIGINAL, REPLY, message, nested};
use crate::family::IpVersion;
use crate::netlink::attribute::attributes;
use crate::netlink::request::Request;

/// `CTA_*` (uapi/linux/netfilter/nfnetlink_conntrack.h).
const MARK: u16 = 8;
const ID: u16 = 12;
const MARK_MASK: u16 = 21;
const ZONE: u16 = 18;
/// `CTA_TUPLE_*`, `CTA_IP_*` (those of IPv4, of IPv6), `CTA_PROTO_*` (same file).
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const TUPLE_ZONE: u16 = 3;
const SOURCES: [u16; 2] = [1, 3];
const DESTINATIONS: [u16; 2] = [2, 4];
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// `struct nfgenmsg` (uapi/linux/netfilter/nfnetlink.h).
const NETFILTER_HEADER: usize = 4;

/// A conntrack entry of a protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The protocol above IP (`IPPROTO_*`).
    pub protocol: u8,
    /// The source of the first packet.
    pub source: SocketAddr,
    /// The destination of the first packet, as its sender wrote it.
    pub destination: SocketAddr,
    /// The source of the replies: the destination after translation.
    pub reply_source: SocketAddr,
    /// The destination of the replies: the source after translation.
    pub reply_destination: SocketAddr,
    /// Its mark, of which several programs may use bits.
    pub mark: u32,
    /// What tells it from a later entry of the same addresses; unknown when it was read from text.
    id: Option<u32>,
    zone: Zone,
}

/// The conntrack zone of an entry: of both directions, or of the original one only. Zero is no zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Zone {
    both: u16,
    original: u16,
}

/// One direction of an entry.
#[derive(Default)]
struct Direction {
    protocol: Option<u8>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    zone: u16,
}

impl Connection {
    /// A connection as a value, which the kernel does not have: for tests of what is decided by its addresses.
    pub fn untracked(protocol: u8, source: SocketAddr, destination: SocketAddr, reply_source: SocketAddr) -> Self {
        let (reply_destination, mark, id, zone) = (source, 0, None, Zone::default());
        Self { protocol, source, destination, reply_source, reply_destination, mark, id, zone }
    }

    /// Whether nobody has translated its destination.
    pub fn is_untranslated(&self) -> bool {
        self.reply_source == self.destination
    }

    /// Whether nobody has translated its source.
    pub fn keeps_its_source(&self) -> bool {
        self.reply_destination == self.source
    }

    /// Reads a line of /proc/net/nf_conntrack (net/netfilter/nf_conntrack_standalone.c, `ct_seq_show`); `None` for a
    /// protocol without ports.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        // The version of IP by name and number, then the protocol by name and number.
        let protocol = line.split_ascii_whitespace().nth(3)?.parse().ok()?;
        let fields = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        // A field of the original direction stands before that of the other.
        let field =
            |name: &'static str| fields.clone().filter(move |(found, _)| *found == name).map(|(_, value)| value);
        let (mut sources, mut ports) = (field("src"), field("sport"));
        let (mut destinations, mut to_ports) = (field("dst"), field("dport"));
        let mut direction = || {
            Some(Direction {
                protocol: Some(protocol),
                source: sources.next()?.parse().ok(),
                source_port: ports.next()?.parse().ok(),
                destination: destinations.next()?.parse().ok(),
                destination_port: to_ports.next()?.parse().ok(),
                ..Direction::default()
            })
        };
        let (original, reply) = (direction()?, direction()?);
        let first = |name| field(name).next();
        let zone = |name| first(name).map_or(Some(0), |value| value.parse().ok());
        let mark = first("mark").map_or(Some(0), |value| value.parse().ok())?;
        Self::new(&original, &reply, mark, None, Zone { both: zone("zone")?, original: zone("zone-orig")? })
    }

    fn new(original: &Direction, reply: &Direction, mark: u32, id: Option<u32>, zone: Zone) -> Option<Self> {
        Some(Self {
            protocol: original.protocol?,
            source: SocketAddr::new(original.source?, original.source_port?),
            destination: SocketAddr::new(original.destination?, original.destination_port?),
            reply_source: SocketAddr::new(reply.source?, reply.source_port?),
            reply_destination: SocketAddr::new(reply.destination?, reply.destination_port?),
            mark,
            id,
            zone,
        })
    }

    /// Deletes it. One that was read from a message is told from an entry that was created since.
    pub(super) fn delete(&self) -> Request<NetfilterMessage> {
        let mut attributes = self.identity();
        attributes.extend(self.id.map(|id| DefaultNla::new(ID, id.to_be_bytes().to_vec())));
        Request::removal(format!("forget {self}"), self.message(DELETE, attributes))
    }

    /// Sets these bits of its mark to what they are in `bits`; the others stay.
    pub(super) fn set_mark(&self, bits: u32, of: u32) -> Request<NetfilterMessage> {
        let number = |kind, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
        let mut attributes = self.identity();
        attributes.extend([number(MARK, bits & of), number(MARK_MASK, of)]);
        // Without a flag that asks for a new entry, one that has gone is an error, which a removal takes for done.
        Request::removal(format!("mark {self}"), self.message(NEW, attributes))
    }

    fn message(&self, message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessage {
        message(IpVersion::of(self.destination.ip()), ConntrackMessage::Other { message_type, attributes })
    }

    /// What the kernel finds it by.
    fn identity(&self) -> Vec<DefaultNla> {
        let Self { protocol, source, destination, zone, .. } = self;
        let mut tuple = vec![
            Tuple::Ip(vec![IPTuple::SourceAddress(source.ip()), IPTuple::DestinationAddress(destination.ip())]),
            Tuple::Proto(vec![
                ProtoTuple::Protocol(Protocol::from(*protocol)),
                ProtoTuple::SourcePort(source.port()),
                ProtoTuple::DestinationPort(destination.port()),
            ]),
        ];
        let in_zone = |kind, zone: u16| (zone != 0).then(|| DefaultNla::new(kind, zone.to_be_bytes().to_vec()));
        tuple.extend(in_zone(TUPLE_ZONE, zone.original).map(Tuple::Other));
        let mut attributes = vec![nested(ORIGINAL, &tuple)];
        attributes.extend(in_zone(ZONE, zone.both));
        attributes
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection from {} to {}", self.source, self.destination)
    }
}

/// An entry in a message of the kernel; `None` for a protocol without ports.
pub(super) struct Listed(pub(super) Option<Connection>);

impl NetlinkDeserializable for Listed {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        let rest = payload.get(NETFILTER_HEADER..).ok_or("a message shorter than its header")?;
        let (mut original, mut reply) = (Direction::default(), Direction::default());
        let (mut mark, mut id, mut zone) = (0, None, Zone::default());
        for (kind, value) in attributes(rest) {
            match kind {
                ORIGINAL => original = Direction::parse(value),
                REPLY => reply = Direction::parse(value),
                MARK => mark = value.try_into().map_or(0, u32::from_be_bytes),
                ID => id = value.try_into().ok().map(u32::from_be_bytes),
                ZONE => zone.both = short(value).unwrap_or_default(),
                _ => {}
            }
        }
        zone.original = original.zone;
        Ok(Self(Connection::new(&original, &reply, mark, id, zone)))
    }
}

impl Direction {
    fn parse(tuple: &[u8]) -> Self {
        let mut direction = Self::default();
        for (kind, value) in attributes(tuple) {
            match kind {
                TUPLE_IP => {
                    for (kind, value) in attributes(value) {
                        if SOURCES.contains(&kind) {
                            direction.source = address(value);
                        } else if DESTINATIONS.contains(&kind) {
                            direction.destination = address(value);
                        }
                    }
                }
                TUPLE_PROTOCOL => {
                    for (kind, value) in attributes(value) {
                        match kind {
                            PROTOCOL => direction.protocol = value.first().copied(),
                            SOURCE_PORT => direction.source_port = short(value),
                            DESTINATION_PORT => direction.destination_port = short(value),
                            _ => {}
                        }
                    }
                }
                TUPLE_ZONE => direction.zone = short(value).unwrap_or_default(),
                _ => {}
            }
        }
        direction
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    IpVersion::BOTH.into_iter().find_map(|version| version.address(bytes))
}

/// A number in network byte order, as conntrack has them.
fn short(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(u8, String)> {
        let connection = Connection::of_line(line)?;
        let Connection { protocol, source, destination, reply_source, .. } = connection;
        Some((protocol, format!("{source} {destination} {reply_source}")))
    }

    #[test]
    fn a_line_is_read_in_every_form() {
        let translated = "ipv4     2 udp      17 29 src=192.0.2.1 dst=192.0.2.9 sport=4711 dport=53 packets=1 bytes=29 \
                          [UNREPLIED] src=10.244.1.5 dst=192.0.2.1 sport=5353 dport=4711 packets=0 bytes=0 mark=0 zone=0 use=2";
        let expected = "192.0.2.1:4711 192.0.2.9:53 10.244.1.5:5353";
        assert_eq!(parsed(translated), Some((17, expected.into())));
        assert!(!Connection::of_line(translated).unwrap().is_untranslated());
        assert!(Connection::of_line(translated).unwrap().keeps_its_source());
        let masqueraded = translated.replace("dst=192.0.2.1 sport=5353", "dst=192.0.2.7 sport=5353");
        assert!(!Connection::of_line(&masqueraded).unwrap().keeps_its_source());
        let plain = "ipv6     10 tcp      6 431999 ESTABLISHED src=fd00::1 dst=fd00::2 sport=1 dport=2 src=fd00::2 dst=fd00::1 \
                     sport=2 dport=1 [ASSURED] mark=0 zone=7 use=2";
        assert_eq!(parsed(plain), Some((6, "[fd00::1]:1 [fd00::2]:2 [fd00::2]:2".into())));
        let connection = Connection::of_line(plain).unwrap();
        assert!(connection.is_untranslated());
        assert_eq!(connection.zone, Zone { both: 7, original: 0 });
        let echo = "ipv4     2 icmp     1 29 src=192.0.2.1 dst=192.0.2.9 type=8 code=0 id=1 src=192.0.2.9 dst=192.0.2.1 type=0 \
                    code=0 id=1 mark=0 use=2";
        for other in [echo, "", "ipv4", "ipv4 2 udp 17 29 src=x dst=y sport=z dport=99999"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
