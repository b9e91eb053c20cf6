//! A permanent neighbour: an address on a device whose link-layer address never has to be resolved.

use std::{fmt, net::IpAddr};

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;

use crate::family::{self, IpVersion};
use crate::mac::Mac;
use crate::netlink::attribute::attributes;
use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// A permanent neighbour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Index of the device.
    pub device: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// The neighbour's link-layer address.
    pub mac: Mac,
}

impl Neighbour {
    /// Creates this neighbour, or replaces in place the one with the same address.
    pub fn replace(&self) -> Request<Message> {
        let mut message = self.message();
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()));
        let message = RouteNetlinkMessage::NewNeighbour(message);
        Request::new(format!("set neighbour {self}"), message.into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes this neighbour.
    pub fn delete(&self) -> Request<Message> {
        let message = RouteNetlinkMessage::DelNeighbour(self.message());
        Request::removal(format!("remove neighbour {self}"), message.into())
    }

    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family::of(self.address);
        message.header.ifindex = self.device;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(self.destination());
        message
    }

    fn destination(&self) -> NeighbourAttribute {
        NeighbourAttribute::Destination(match self.address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        })
    }
}

/// Those of these permanent neighbours that the kernel lacks, or has with another link-layer address. They are queried
/// one by one, many in one system call: the cost does not grow with the host's other neighbours.
///
/// # Errors
/// When the kernel refuses; a neighbour or device that does not exist is not an error.
pub fn missing(socket: &mut Socket, wanted: &[Neighbour]) -> Result<Vec<Neighbour>> {
    let query = |neighbour: &Neighbour| {
        let mut message = NeighbourMessage::default();
        message.header.family = family::of(neighbour.address);
        message.header.ifindex = neighbour.device;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(neighbour.destination());
        let message = RouteNetlinkMessage::GetNeighbour(message);
        Request::new(format!("look up neighbour {neighbour}"), Message::from(message), 0)
    };
    let replies = socket.get_all(wanted.iter().map(query).collect())?;
    let is =
        |wanted: &Neighbour, found: Option<Reply>| found.is_some_and(|Reply(found)| found.as_ref() == Some(wanted));
    let missing = wanted.iter().zip(replies).filter_map(|(wanted, reply)| (!is(wanted, reply)).then_some(wanted));
    Ok(missing.cloned().collect())
}

/// The permanent neighbours on a device, both families.
pub fn list(socket: &mut Socket, device: u32) -> Result<Vec<Neighbour>> {
    let mut neighbours = Vec::new();
    for family in family::BOTH {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(NeighbourAttribute::IfIndex(device));
        let query = Request::new("list neighbours", Message::from(RouteNetlinkMessage::GetNeighbour(message)), 0);
        let found = socket.dump_some(query, |Reply(neighbour)| neighbour)?;
        neighbours.extend(found.into_iter().filter(|neighbour| neighbour.device == device));
    }
    Ok(neighbours)
}

/// How many neighbours of this host, IPv4 and IPv6, the limits of the kernel's tables do not count: permanent ones and
/// externally learned ones (`neigh_update_gc_list` in net/core/neighbour.c, since Linux 5.0).
///
/// # Errors
/// When the kernel refuses.
pub fn gc_exempt(socket: &mut Socket) -> Result<[u64; 2]> {
    let mut count = |family| {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.header.kind = RouteType::Unspec;
        let message = Message::from(RouteNetlinkMessage::GetNeighbour(message));
        let found = socket.dump_some(Request::new("list neighbours", message, 0), |GcExempt(is)| is.then_some(()))?;
        Ok(found.len() as u64)
    };
    Ok([count(family::BOTH[0])?, count(family::BOTH[1])?])
}

/// Whether a neighbour is exempt from the limits.
struct GcExempt(bool);

impl NetlinkDeserializable for GcExempt {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        let (header, _) = payload.split_first_chunk::<HEADER>().ok_or("a neighbour shorter than its header")?;
        let [.., s0, s1, flags, _] = *header;
        Ok(Self(u16::from_ne_bytes([s0, s1]) & NUD_PERMANENT != 0 || flags & NTF_EXT_LEARNED != 0))
    }
}

/// A neighbour in a message from the kernel, read in place (`struct ndmsg`, uapi/linux/neighbour.h). `None` for an
/// entry that is not permanent: those are the kernel's own.
struct Reply(Option<Neighbour>);

const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NTF_EXT_LEARNED: u8 = 0x10;

impl NetlinkDeserializable for Reply {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, DecodeError> {
        let (header, rest) = payload.split_first_chunk::<HEADER>().ok_or("a neighbour shorter than its header")?;
        let [family, _, _, _, d0, d1, d2, d3, s0, s1, ..] = *header;
        let version = IpVersion::BOTH.into_iter().find(|version| u8::from(version.family()) == family);
        let Some(version) = version.filter(|_| u16::from_ne_bytes([s0, s1]) == NUD_PERMANENT) else {
            return Ok(Self(None));
        };
        let (mut address, mut mac) = (None, None);
        for (kind, value) in attributes(rest) {
            match kind {
                NDA_DST => address = version.address(value),
                NDA_LLADDR => mac = Mac::from_bytes(value),
                _ => {}
            }
        }
        let device = u32::from_ne_bytes([d0, d1, d2, d3]);
        Ok(Self(address.zip(mac).map(|(address, mac)| Neighbour { device, address, mac })))
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.address, self.mac)
    }
}
