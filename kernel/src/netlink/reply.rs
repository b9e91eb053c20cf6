//! A message from the kernel as bytes, and the acknowledgement that may be in it.

use netlink_packet_core::{NetlinkBuffer, NetlinkDeserializable, NetlinkMessage, NetlinkPayload};

use crate::netlink::attribute::attributes;
use crate::netlink::error::{Error, Result};

/// `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLM_F_CAPPED: u16 = 0x100;
pub(super) const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message from the kernel, still as bytes.
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) bytes: &'a [u8],
}

/// The messages of one datagram.
pub(super) fn of_datagram<'a>(operation: &str, datagram: &'a [u8]) -> Result<Vec<Reply<'a>>> {
    let mut replies = Vec::new();
    let mut rest = datagram;
    while rest.len() >= HEADER {
        let buffer =
            NetlinkBuffer::new_checked(rest).map_err(|error| Error::unreadable(operation, format!("{error:?}")))?;
        let length = buffer.length() as usize;
        replies.push(Reply {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            bytes: &rest[..length],
        });
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(replies)
}

/// The reply to a query; `None` when the object does not exist.
pub(super) fn reply<T: NetlinkDeserializable>(operation: &str, reply: &Reply<'_>) -> Result<Option<T>> {
    if reply.kind != NLMSG_ERROR {
        return parse(operation, reply.bytes).map(Some);
    }
    let (number, extack) = acknowledgement(reply);
    let error = Error::kernel(operation, number, extack);
    if number == 0 || error.is_gone() { Ok(None) } else { Err(error) }
}

pub(super) fn parse<T: NetlinkDeserializable>(operation: &str, bytes: &[u8]) -> Result<T> {
    let message = NetlinkMessage::<T>::deserialize(bytes).map_err(|error| Error::unreadable(operation, error))?;
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => Ok(inner),
        _ => Err(Error::unreadable(operation, "a control message instead of a reply")),
    }
}

/// The positive error number of an `NLMSG_ERROR` or `NLMSG_DONE`, 0 for success, and the extended acknowledgement's
/// text (netlink(7), `NETLINK_EXT_ACK`).
pub(super) fn acknowledgement(reply: &Reply<'_>) -> (i32, Option<String>) {
    let payload = &reply.bytes[HEADER..];
    let Some((code, rest)) = payload.split_first_chunk::<4>() else { return (0, None) };
    let number = i32::from_ne_bytes(*code).wrapping_neg();
    if reply.flags & NLM_F_ACK_TLVS == 0 {
        return (number, None);
    }
    // An NLMSG_ERROR repeats the request's header, and its payload unless capped; an NLMSG_DONE does not.
    let skip = match (reply.kind, rest.first_chunk::<4>()) {
        (NLMSG_ERROR, Some(_)) if reply.flags & NLM_F_CAPPED != 0 => HEADER,
        (NLMSG_ERROR, Some(length)) => (u32::from_ne_bytes(*length) as usize).next_multiple_of(4),
        _ => 0,
    };
    let mut attributes = attributes(rest.get(skip..).unwrap_or_default());
    let text = |value| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
    (number, attributes.find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, value)| text(value)))
}
