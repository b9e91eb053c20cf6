//! A permanent neighbour: an address on a device whose link-layer address never has to be asked for.

use std::{fmt, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;

use crate::message::Message;
use crate::{Mac, Request, Result, Socket, family};

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
    /// Creates this neighbour, or replaces the one with the same address in place.
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

/// Which of these permanent neighbours the kernel has not, or has with another link-layer address. They are asked for one
/// by one, many in one system call: the cost does not grow with what else the host has.
///
/// # Errors
/// When the kernel refuses to tell; that there is no such neighbour or device is an answer.
pub fn missing(socket: &mut Socket, wanted: &[Neighbour]) -> Result<Vec<Neighbour>> {
    let question = |neighbour: &Neighbour| {
        let mut message = NeighbourMessage::default();
        message.header.family = family::of(neighbour.address);
        message.header.ifindex = neighbour.device;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(neighbour.destination());
        let message = RouteNetlinkMessage::GetNeighbour(message);
        Request::new(format!("look up neighbour {neighbour}"), Message::from(message), 0)
    };
    let answers = socket.get_all(wanted.iter().map(question).collect())?;
    let is = |neighbour: &Neighbour, answer: Option<Message>| match answer {
        Some(Message::Route(message)) => match *message {
            RouteNetlinkMessage::NewNeighbour(found) => parse(&found).as_ref() == Some(neighbour),
            _ => false,
        },
        _ => false,
    };
    let missing = wanted.iter().zip(answers).filter_map(|(wanted, answer)| (!is(wanted, answer)).then_some(wanted));
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
        let ask = Request::new("list neighbours", RouteNetlinkMessage::GetNeighbour(message).into(), 0);
        for answer in socket.dump(ask)? {
            let Message::Route(message) = answer else { continue };
            let RouteNetlinkMessage::NewNeighbour(message) = *message else { continue };
            neighbours.extend(parse(&message).filter(|neighbour| neighbour.device == device));
        }
    }
    Ok(neighbours)
}

/// `None` for an entry that is not permanent: those come and go by themselves.
fn parse(message: &NeighbourMessage) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_bytes(bytes),
        _ => None,
    })?;
    Some(Neighbour { device: message.header.ifindex, address, mac })
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.address, self.mac)
    }
}
