//! What the messages about conntrack entries have in common.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, Nla};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::family::IpVersion;

/// `IPCTNL_MSG_CT_*` (uapi/linux/netfilter/nfnetlink_conntrack.h).
pub(super) const NEW: u8 = 0;
pub(super) const GET: u8 = 1;
pub(super) const DELETE: u8 = 2;
/// `CTA_*` (same file).
pub(super) const ORIGINAL: u16 = 1;
pub(super) const REPLY: u16 = 2;

/// A nested attribute with the flag that says so, which the kernel requires for a filter.
pub(super) fn nested<T: Nla>(kind: u16, attributes: &[T]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// A message of one version of IP.
pub(super) fn message(version: IpVersion, inner: ConntrackMessage) -> NetfilterMessage {
    let family = match version {
        IpVersion::V4 => NetfilterProtoFamily::IPv4,
        IpVersion::V6 => NetfilterProtoFamily::IPv6,
    };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}
