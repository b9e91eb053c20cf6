//! The messages of a route netlink socket: those of `netlink-packet-route`, and two types that it does not have.
//!
//! Nexthop objects and VXLAN's VNI filter are both an eight-byte header followed by attributes (`struct nhmsg` in
//! uapi/linux/nexthop.h, `struct tunnel_msg` in uapi/linux/if_link.h); `nexthop` and `link::vni_filter` know what the
//! bytes mean.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator,
    Parseable,
};
use netlink_packet_route::RouteNetlinkMessage;

const PLAIN_HEADER: usize = 8;

/// Message types without a type in `netlink-packet-route` (uapi/linux/rtnetlink.h).
pub(crate) const NEW_NEXTHOP: u16 = 104;
pub(crate) const DELETE_NEXTHOP: u16 = 105;
pub(crate) const GET_NEXTHOP: u16 = 106;
pub(crate) const NEW_TUNNEL: u16 = 120;
pub(crate) const DELETE_TUNNEL: u16 = 121;
pub(crate) const GET_TUNNEL: u16 = 122;

/// A message of a route netlink socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Links, addresses, routes, neighbours.
    Route(Box<RouteNetlinkMessage>),
    /// Nexthop objects and VNI filters.
    Plain(Plain),
}

/// An eight-byte header and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    pub(crate) kind: u16,
    pub(crate) header: [u8; PLAIN_HEADER],
    pub(crate) attributes: Vec<DefaultNla>,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A device.
    Link,
    /// An address on a device.
    Address,
    /// A neighbour.
    Neighbour,
    /// A route or a rule.
    Route,
    /// A nexthop object.
    Nexthop,
    /// A network that a VXLAN device accepts.
    Network,
    /// Something else.
    Other,
}

impl Message {
    /// What the message is about.
    pub fn subject(&self) -> Subject {
        use RouteNetlinkMessage as Of;
        match self {
            Self::Plain(message) if (NEW_NEXTHOP..=GET_NEXTHOP).contains(&message.kind) => Subject::Nexthop,
            Self::Plain(_) => Subject::Network,
            Self::Route(message) => match **message {
                Of::NewLink(_) | Of::DelLink(_) | Of::GetLink(_) | Of::SetLink(_) => Subject::Link,
                Of::NewAddress(_) | Of::DelAddress(_) | Of::GetAddress(_) => Subject::Address,
                Of::NewNeighbour(_) | Of::DelNeighbour(_) | Of::GetNeighbour(_) => Subject::Neighbour,
                Of::NewRoute(_) | Of::DelRoute(_) | Of::GetRoute(_) => Subject::Route,
                Of::NewRule(_) | Of::DelRule(_) | Of::GetRule(_) => Subject::Route,
                _ => Subject::Other,
            },
        }
    }
}

impl From<RouteNetlinkMessage> for Message {
    fn from(message: RouteNetlinkMessage) -> Self {
        Self::Route(Box::new(message))
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Route(message) => message.message_type(),
            Self::Plain(message) => message.kind,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Route(message) => NetlinkSerializable::buffer_len(&**message),
            Self::Plain(message) => PLAIN_HEADER + message.attributes.as_slice().buffer_len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Route(message) => message.serialize(buffer),
            Self::Plain(message) => {
                buffer[..PLAIN_HEADER].copy_from_slice(&message.header);
                message.attributes.as_slice().emit(&mut buffer[PLAIN_HEADER..]);
            }
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        if !(NEW_NEXTHOP..=GET_NEXTHOP).contains(&header.message_type)
            && !(NEW_TUNNEL..=GET_TUNNEL).contains(&header.message_type)
        {
            return RouteNetlinkMessage::deserialize(header, payload).map(Self::from);
        }
        let (fixed, rest) = payload.split_first_chunk().ok_or("a message shorter than its header")?;
        let attributes =
            NlasIterator::new(rest).map(|attribute| DefaultNla::parse(&attribute?)).collect::<Result<_, _>>()?;
        Ok(Self::Plain(Plain { kind: header.message_type, header: *fixed, attributes }))
    }
}

#[cfg(test)]
mod tests {
    use crate::link::{self, vni_filter};
    use crate::mac::Mac;

    use super::*;

    #[test]
    fn a_message_knows_its_subject() {
        let route = RouteNetlinkMessage::NewRoute(Default::default());
        assert_eq!(Message::from(route).subject(), Subject::Route);
        assert_eq!(link::set_mtu(1, 1500).message.subject(), Subject::Link);
        assert_eq!(link::set_mac(1, Mac::local(1)).message.subject(), Subject::Link);
        assert_eq!(link::delete("a").message.subject(), Subject::Link);
        assert_eq!(vni_filter::add(1, 1).message.subject(), Subject::Network);
        let nexthop = Plain { kind: DELETE_NEXTHOP, header: [0; 8], attributes: Vec::new() };
        assert_eq!(Message::Plain(nexthop).subject(), Subject::Nexthop);
    }
}
