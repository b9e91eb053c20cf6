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
pub(super) const MARK: u16 = 8;
const ID: u16 = 12;
pub(super) const MARK_MASK: u16 = 21;
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
/// Those of ICMP, of ICMPv6.
const ICMP_IDS: [u16; 2] = [4, 7];
const ICMP_TYPES: [u16; 2] = [5, 8];
const ICMP_CODES: [u16; 2] = [6, 9];
/// `struct nfgenmsg` (uapi/linux/netfilter/nfnetlink.h).
const NETFILTER_HEADER: usize = 4;

/// A conntrack entry. Of a protocol without ports all ports are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    kind: Kind,
}

/// What an entry is found by, beside its addresses and its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Its ports.
    Ports,
    /// ICMP's identifier, type and code.
    Icmp { id: u16, of_type: u8, code: u8 },
    /// Nothing: the entry has all packets of this protocol.
    Plain,
}

/// The conntrack zone of an entry: of both directions, or of the original one only. Zero is no zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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
    icmp_id: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    zone: u16,
}

impl Connection {
    /// A connection as a value, which the kernel does not have: for tests of what is decided by its addresses.
    pub fn untracked(protocol: u8, source: SocketAddr, destination: SocketAddr, reply_source: SocketAddr) -> Self {
        let (reply_destination, mark, id, zone, kind) = (source, 0, None, Zone::default(), Kind::Ports);
        Self { protocol, source, destination, reply_source, reply_destination, mark, id, zone, kind }
    }

    /// The same without its mark, which changes.
    pub(super) fn unmarked(self) -> Self {
        Self { mark: 0, ..self }
    }

    /// Whether nobody has translated its destination.
    pub fn is_untranslated(&self) -> bool {
        self.reply_source == self.destination
    }

    /// Whether its protocol has ports.
    pub(super) fn has_ports(&self) -> bool {
        self.kind == Kind::Ports
    }

    /// Whether nobody has translated its source.
    pub fn keeps_its_source(&self) -> bool {
        self.reply_destination == self.source
    }

    /// Reads a line of /proc/net/nf_conntrack (net/netfilter/nf_conntrack_standalone.c, `ct_seq_show`); `None` where it does not
    /// say all that the entry is found by: of GRE.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        // The version of IP by name and number, then the protocol by name and number.
        let protocol = line.split_ascii_whitespace().nth(3)?.parse().ok()?;
        let fields = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        // A field of the original direction stands before that of the other.
        let field =
            |name: &'static str| fields.clone().filter(move |(found, _)| *found == name).map(|(_, value)| value);
        let (mut sources, mut ports) = (field("src"), field("sport"));
        let (mut destinations, mut to_ports) = (field("dst"), field("dport"));
        let (mut ids, mut types, mut codes) = (field("id"), field("type"), field("code"));
        let mut direction = || {
            let number = |text: Option<&str>| text.map_or(Some(None), |text| text.parse().ok().map(Some));
            let octet = |text: Option<&str>| text.map_or(Some(None), |text| text.parse().ok().map(Some));
            Some(Direction {
                protocol: Some(protocol),
                source: sources.next()?.parse().ok(),
                source_port: number(ports.next())?,
                destination: destinations.next()?.parse().ok(),
                destination_port: number(to_ports.next())?,
                icmp_id: number(ids.next())?,
                icmp_type: octet(types.next())?,
                icmp_code: octet(codes.next())?,
                ..Direction::default()
            })
        };
        if field("srckey").next().is_some() {
            return None;
        }
        let (original, reply) = (direction()?, direction()?);
        let first = |name| field(name).next();
        let zone = |name| first(name).map_or(Some(0), |value| value.parse().ok());
        let mark = first("mark").map_or(Some(0), |value| value.parse().ok())?;
        Self::new(&original, &reply, mark, None, Zone { both: zone("zone")?, original: zone("zone-orig")? })
    }

    fn new(original: &Direction, reply: &Direction, mark: u32, id: Option<u32>, zone: Zone) -> Option<Self> {
        let end = |address: Option<IpAddr>, port: Option<u16>| Some(SocketAddr::new(address?, port.unwrap_or(0)));
        Some(Self {
            protocol: original.protocol?,
            source: end(original.source, original.source_port)?,
            destination: end(original.destination, original.destination_port)?,
            reply_source: end(reply.source, reply.source_port)?,
            reply_destination: end(reply.destination, reply.destination_port)?,
            mark,
            id,
            zone,
            kind: original.kind(),
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
        let mut above = vec![ProtoTuple::Protocol(Protocol::from(*protocol))];
        match self.kind {
            Kind::Ports => {
                above.extend([ProtoTuple::SourcePort(source.port()), ProtoTuple::DestinationPort(destination.port())]);
            }
            Kind::Icmp { id, of_type, code } => {
                let place = usize::from(source.is_ipv6());
                let values =
                    [(ICMP_IDS, id.to_be_bytes().to_vec()), (ICMP_TYPES, vec![of_type]), (ICMP_CODES, vec![code])];
                above.extend(values.map(|(kinds, value)| ProtoTuple::Other(DefaultNla::new(kinds[place], value))));
            }
            Kind::Plain => {}
        }
        let addresses = vec![IPTuple::SourceAddress(source.ip()), IPTuple::DestinationAddress(destination.ip())];
        let mut tuple = vec![Tuple::Ip(addresses), Tuple::Proto(above)];
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

/// An entry in a message of the kernel; `None` for one that cannot be read.
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
    fn kind(&self) -> Kind {
        match (self.source_port, self.icmp_id, self.icmp_type, self.icmp_code) {
            (Some(_), ..) => Kind::Ports,
            (None, Some(id), Some(of_type), Some(code)) => Kind::Icmp { id, of_type, code },
            _ => Kind::Plain,
        }
    }

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
                            kind if ICMP_IDS.contains(&kind) => direction.icmp_id = short(value),
                            kind if ICMP_TYPES.contains(&kind) => direction.icmp_type = value.first().copied(),
                            kind if ICMP_CODES.contains(&kind) => direction.icmp_code = value.first().copied(),
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
        assert_eq!(parsed(echo), Some((1, "192.0.2.1:0 192.0.2.9:0 192.0.2.9:0".into())));
        assert_eq!(Connection::of_line(echo).unwrap().kind, Kind::Icmp { id: 1, of_type: 8, code: 0 });
        let tunnel =
            "ipv4     2 unknown  4 599 src=192.0.2.1 dst=192.0.2.9 src=192.0.2.9 dst=192.0.2.1 mark=5 zone=0 use=2";
        assert_eq!(parsed(tunnel), Some((4, "192.0.2.1:0 192.0.2.9:0 192.0.2.9:0".into())));
        let gre = "ipv4     2 gre      47 29 timeout=30, stream_timeout=180 src=192.0.2.1 dst=192.0.2.9 srckey=0x0 dstkey=0x0 \
                   src=192.0.2.9 dst=192.0.2.1 srckey=0x0 dstkey=0x0 mark=0 zone=0 use=2";
        for other in [gre, "", "ipv4", "ipv4 2 udp 17 29 src=x dst=y sport=z dport=99999"] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
