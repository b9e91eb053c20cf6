//! An IPv4 address that the host answers for on a device, by ARP, without having it: a proxy entry of the neighbour table. The
//! kernel answers if it forwards there and has a unicast route to the address by another device (net/ipv4/arp.c,
//! `arp_process`).
//!
//! What is not here: the same for IPv6. There the kernel answers under an address that it looks for, and gives no answer to
//! who asks from a link-local address where the device has none (net/ipv6/ndisc.c, `ndisc_send_na`).

use std::{fmt, net::Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;

use crate::family;
use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// An address that the host answers for on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyNeighbour {
    /// Index of the device.
    pub device: u32,
    /// The address.
    pub address: Ipv4Addr,
}

impl ProxyNeighbour {
    /// Creates it; one that is there stays.
    pub fn replace(&self) -> Request<Message> {
        let mut message = self.message();
        message.header.state = NeighbourState::Permanent;
        let message = RouteNetlinkMessage::NewNeighbour(message);
        Request::new(format!("answer for {self}"), message.into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn message(&self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family::of(self.address.into());
        message.header.ifindex = self.device;
        message.header.flags = NeighbourFlags::Proxy;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(self.address)));
        message
    }
}

/// Those that the kernel lacks. They are queried one by one, many in one system call.
///
/// # Errors
/// When the kernel refuses; an entry or device that does not exist is not an error.
pub fn missing(socket: &mut Socket, wanted: &[ProxyNeighbour]) -> Result<Vec<ProxyNeighbour>> {
    let query = |neighbour: &ProxyNeighbour| {
        let message = RouteNetlinkMessage::GetNeighbour(neighbour.message());
        Request::new(format!("look up proxy neighbour {neighbour}"), Message::from(message), 0)
    };
    let replies: Vec<Option<Message>> = socket.get_all(wanted.iter().map(query).collect())?;
    let missing = wanted.iter().zip(replies).filter(|(_, reply)| reply.is_none());
    Ok(missing.map(|(wanted, _)| wanted.clone()).collect())
}

impl fmt::Display for ProxyNeighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on device {}", self.address, self.device)
    }
}
