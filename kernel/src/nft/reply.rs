//! The kernel's replies about nftables, as bytes: they are compared with what is desired, and hardly ever parsed.
//!
//! The types of `netlink-packet-netfilter` write messages here but do not read them: they format every buffer as text
//! in case of an error, which takes a millisecond for a dozen rules and minutes for ten thousand elements.

use netlink_packet_core::{
    DecodeError, Emitable, NLA_F_NESTED, NLA_TYPE_MASK, NetlinkDeserializable, NetlinkHeader, Nla,
};

pub(super) use crate::netlink::attribute::attributes;

/// `struct nfgenmsg` (uapi/linux/netfilter/nfnetlink.h).
const NETFILTER_HEADER: usize = 4;
/// `struct nlattr` (uapi/linux/netlink.h): a length and a type.
const ATTRIBUTE_HEADER: usize = 4;

/// The attributes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    attributes: Vec<u8>,
}

impl NetlinkDeserializable for Reply {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, Self::Error> {
        let attributes = payload.get(NETFILTER_HEADER..).ok_or("a message shorter than its header")?;
        Ok(Self { attributes: attributes.to_vec() })
    }
}

impl Reply {
    /// The value of an attribute.
    pub(super) fn get(&self, kind: u16) -> Option<&[u8]> {
        get(&self.attributes, kind)
    }

    /// A number; nftables uses network byte order.
    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
    }

    /// Whether it has exactly this attribute.
    pub(super) fn has(&self, wanted: &impl Nla) -> bool {
        has(&self.attributes, wanted)
    }
}

/// The value of the first attribute of a type.
pub(super) fn get(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Whether there is exactly this attribute.
pub(super) fn has(bytes: &[u8], wanted: &impl Nla) -> bool {
    get(bytes, wanted.kind() & NLA_TYPE_MASK).is_some_and(|found| found == value(wanted))
}

/// The value of an attribute as the kernel lists it.
pub(super) fn value(attribute: &impl Nla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    if attribute.is_nested() {
        clear_flags(&mut bytes);
    }
    bytes
}

/// An attribute as the kernel lists it.
pub(super) fn listed(attribute: &impl Nla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    clear_flags(&mut bytes);
    bytes
}

/// Nested attributes may bear a flag; nftables does not set it.
fn clear_flags(mut bytes: &mut [u8]) {
    while let Some((&mut [l0, l1, ref mut k0, ref mut k1], _)) = bytes.split_first_chunk_mut::<ATTRIBUTE_HEADER>() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([*k0, *k1]);
        [*k0, *k1] = (kind & NLA_TYPE_MASK).to_ne_bytes();
        if kind & NLA_F_NESTED != 0
            && let Some(inner) = bytes.get_mut(ATTRIBUTE_HEADER..length)
        {
            clear_flags(inner);
        }
        // An attribute without a length would loop for ever.
        let next = length.max(ATTRIBUTE_HEADER).next_multiple_of(4);
        bytes = bytes.get_mut(next..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_attributes_end_the_list() {
        let bytes = [5, 0, 1, 0, 7, 0, 0, 0, 6, 0, 2, 0x80, 8];
        assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [(1, &[7_u8][..])]);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[4, 0, 2, 0x80]).collect::<Vec<_>>(), [(2, &[][..])]);
    }

    #[test]
    fn the_flag_of_nested_attributes_is_cleared_at_every_depth_and_nowhere_else() {
        // Two levels with the flag, and a value that looks like an attribute.
        let mut bytes = [[12, 0, 1, 0x80], [8, 0, 2, 0x80], [4, 0, 3, 0x80], [8, 0, 4, 0], [4, 0, 3, 0x80]].concat();
        clear_flags(&mut bytes);
        let cleared = [[12, 0, 1, 0], [8, 0, 2, 0], [4, 0, 3, 0], [8, 0, 4, 0], [4, 0, 3, 0x80]].concat();
        assert_eq!(bytes, cleared);
        clear_flags(&mut [0, 0, 0, 0]);
    }
}
