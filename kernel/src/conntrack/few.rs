//! All connections, where they are so few that their text is read sooner than they are listed.
//!
//! A dump locks every bucket of the kernel's table, which takes 20 ms for 262,144 buckets even when all are empty, and some kernels run
//! nothing else on the core meanwhile. The text in /proc is read without locks, but 2 µs for each entry.

use std::fs;

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader};
use netlink_packet_netfilter::conntrack::ConntrackMessage;

use crate::conntrack::connection::Connection;
use crate::conntrack::message::message;
use crate::family::IpVersion;
use crate::netlink::attribute::attributes;
use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// `IPCTNL_MSG_CT_GET_STATS`, `CTA_STATS_GLOBAL_ENTRIES` (uapi/linux/netfilter/nfnetlink_conntrack.h).
const GET_STATISTICS: u8 = 5;
const ENTRIES: u16 = 1;
/// `struct nfgenmsg` (uapi/linux/netfilter/nfnetlink.h).
const NETFILTER_HEADER: usize = 4;

/// The entries of the network namespace of this thread. Not every kernel has it (CONFIG_NF_CONNTRACK_PROCFS).
const TEXT: &str = "/proc/thread-self/net/nf_conntrack";

/// Up to so many entries the text is read: the two ways take equally long at 10,000.
const AS_TEXT: u32 = 5_000;

/// All connections of every protocol, of both versions of IP, where they are few. The socket has to be of the namespace of this thread.
/// `None`: they are many, or their text cannot be read, or has one that only a message tells rightly.
///
/// # Errors
/// What the kernel refused.
pub fn few(socket: &mut Socket) -> Result<Option<Vec<Connection>>> {
    match count(socket)? {
        Some(0) => Ok(Some(Vec::new())),
        Some(count) if count <= AS_TEXT => {
            let text = fs::read_to_string(TEXT).ok();
            Ok(text.and_then(|text| text.lines().map(Connection::of_line).collect()))
        }
        _ => Ok(None),
    }
}

/// How many connections the namespace of the socket tracks; `None` when the kernel does not say.
fn count(socket: &mut Socket) -> Result<Option<u32>> {
    let asked = ConntrackMessage::Other { message_type: GET_STATISTICS, attributes: Vec::new() };
    let mut replies =
        socket.get_all(vec![Request::new("count connections", message(IpVersion::V4, asked), 0)])?.into_iter();
    Ok(replies.next().flatten().and_then(|Statistics(entries)| entries))
}

struct Statistics(Option<u32>);

impl NetlinkDeserializable for Statistics {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, Self::Error> {
        let rest = payload.get(NETFILTER_HEADER..).ok_or("a message shorter than its header")?;
        let entries = attributes(rest).find(|(kind, _)| *kind == ENTRIES);
        Ok(Self(entries.and_then(|(_, value)| value.try_into().ok()).map(u32::from_be_bytes)))
    }
}
