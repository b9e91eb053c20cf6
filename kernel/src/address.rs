//! An address on a device.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};

use crate::family;
use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// An address with its prefix length on the device with an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Index of the device.
    pub device: u32,
    /// The address and its prefix length; host bits are kept.
    pub address: IpNetwork,
}

impl Address {
    /// Adds the address to the device, usable at once: duplicate address detection is off. RFC 4862, section 5.4,
    /// allows that where uniqueness is ensured by other means; here the ledger ensures it.
    pub fn replace(&self) -> Request<Message> {
        let mut message = self.message();
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
        let message = RouteNetlinkMessage::NewAddress(message);
        Request::new(format!("set address {self}"), message.into(), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes the address.
    pub fn delete(&self) -> Request<Message> {
        let message = RouteNetlinkMessage::DelAddress(self.message());
        Request::removal(format!("remove address {self}"), message.into())
    }

    fn message(&self) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family::of(self.address.ip());
        message.header.prefix_len = self.address.prefix();
        message.header.index = self.device;
        message.header.scope = AddressScope::Universe;
        message.attributes.push(AddressAttribute::Local(self.address.ip()));
        message.attributes.push(AddressAttribute::Address(self.address.ip()));
        message
    }
}

/// Those of these IPv6 addresses that the kernel lacks, whatever their prefix length. They are queried one by one, many in one
/// system call: the cost does not grow with the host's other addresses. (The kernel answers such queries for IPv6 only.)
///
/// # Errors
/// When the kernel refuses; an address or device that does not exist is not an error.
pub fn missing(socket: &mut Socket, wanted: &[Address]) -> Result<Vec<Address>> {
    let query = |address: &Address| {
        let mut message = AddressMessage::default();
        message.header.family = family::of(address.address.ip());
        message.header.index = address.device;
        message.attributes.push(AddressAttribute::Address(address.address.ip()));
        let message = Message::from(RouteNetlinkMessage::GetAddress(message));
        Request::new(format!("look up address {address}"), message, 0)
    };
    let replies: Vec<Option<Message>> = socket.get_all(wanted.iter().map(query).collect())?;
    // Where the device is gone, it is the same address of another one.
    let is = |wanted: &Address, found: Option<Message>| {
        let Some(Message::Route(found)) = found else { return false };
        matches!(*found, RouteNetlinkMessage::NewAddress(ref found) if found.header.index == wanted.device)
    };
    let missing = wanted.iter().zip(replies).filter_map(|(wanted, reply)| (!is(wanted, reply)).then_some(wanted));
    Ok(missing.cloned().collect())
}

/// The addresses of the namespace, or of one device, both families.
pub fn list(socket: &mut Socket, device: Option<u32>) -> Result<Vec<Address>> {
    let mut message = AddressMessage::default();
    message.header.index = device.unwrap_or(0);
    let mut addresses = Vec::new();
    for family in family::BOTH {
        message.header.family = family;
        let query = Request::new("list addresses", RouteNetlinkMessage::GetAddress(message.clone()).into(), 0);
        for reply in socket.dump(query)? {
            let Message::Route(message) = reply else { continue };
            let RouteNetlinkMessage::NewAddress(message) = *message else { continue };
            addresses.extend(parse(&message).filter(|found| device.is_none_or(|device| found.device == device)));
        }
    }
    Ok(addresses)
}

fn parse(message: &AddressMessage) -> Option<Address> {
    // IFA_LOCAL is the local address of a point-to-point pair; IPv6 has IFA_ADDRESS only.
    let mut own: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => own = own.or(Some(*address)),
            _ => {}
        }
    }
    let address = IpNetwork::new(own?, message.header.prefix_len).ok()?;
    Some(Address { device: message.header.index, address })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}
