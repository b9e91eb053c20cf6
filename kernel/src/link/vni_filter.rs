//! The VNI filter of a VXLAN device: the VNIs that it accepts (`bridge vni`, RTM_NEWTUNNEL; Linux 5.18).

use std::ops::RangeInclusive;

use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLM_F_CREATE, Nla, NlaBuffer, NlasIterator, parse_u32};
use netlink_packet_route::AddressFamily;

use crate::netlink::error::{Error, Result};
use crate::netlink::message::{DELETE_TUNNEL, GET_TUNNEL, Message, NEW_TUNNEL, Plain};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

const VXLAN_VNIFILTER_ENTRY: u16 = 1;
const VXLAN_VNIFILTER_ENTRY_START: u16 = 1;
const VXLAN_VNIFILTER_ENTRY_END: u16 = 2;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Accepts `vni`.
pub fn add(device: u32, vni: u32) -> Request<Message> {
    Request::new(format!("accept VNI {vni}"), message(NEW_TUNNEL, device, Some(vni)), NLM_F_CREATE)
}

/// Stops accepting `vni`.
pub fn delete(device: u32, vni: u32) -> Request<Message> {
    Request::removal(format!("refuse VNI {vni}"), message(DELETE_TUNNEL, device, Some(vni)))
}

/// The VNIs that the device accepts, ascending. The kernel lists consecutive ones as a range.
pub fn list(socket: &mut Socket, device: u32) -> Result<Vec<u32>> {
    let operation = "list accepted VNIs";
    let mut list = Vec::new();
    for reply in socket.dump(Request::new(operation, message(GET_TUNNEL, device, None), 0))? {
        let Message::Plain(message) = reply else { continue };
        for entry in message.attributes.iter().filter(|entry| entry.kind() & TYPE_MASK == VXLAN_VNIFILTER_ENTRY) {
            let mut nested = vec![0; entry.value_len()];
            entry.emit_value(&mut nested);
            list.extend(range(&nested).map_err(|error| Error::unreadable(operation, error))?);
        }
    }
    list.sort_unstable();
    Ok(list)
}

fn range(entry: &[u8]) -> std::result::Result<RangeInclusive<u32>, DecodeError> {
    let (mut start, mut end) = (None, None);
    for attribute in NlasIterator::new(entry) {
        let attribute: NlaBuffer<&[u8]> = attribute?;
        match attribute.kind() & TYPE_MASK {
            VXLAN_VNIFILTER_ENTRY_START => start = Some(parse_u32(attribute.value())?),
            VXLAN_VNIFILTER_ENTRY_END => end = Some(parse_u32(attribute.value())?),
            _ => {}
        }
    }
    let start = start.ok_or("an entry of a VNI filter without a start")?;
    Ok(start..=end.unwrap_or(start))
}

fn message(kind: u16, device: u32, vni: Option<u32>) -> Message {
    let [a, b, c, d] = device.to_ne_bytes();
    let attributes = vni.map(|vni| {
        let start = [DefaultNla::new(VXLAN_VNIFILTER_ENTRY_START, vni.to_ne_bytes().to_vec())];
        let mut nested = vec![0; start.as_slice().buffer_len()];
        start.as_slice().emit(&mut nested);
        DefaultNla::new(VXLAN_VNIFILTER_ENTRY | NESTED, nested)
    });
    let header = [u8::from(AddressFamily::Bridge), 0, 0, 0, a, b, c, d];
    Message::Plain(Plain { kind, header, attributes: attributes.into_iter().collect() })
}
