//! All connections, where they are so few that their text is read sooner than they are listed.
//!
//! A dump locks every bucket of the kernel's table, which takes 20 ms for 262,144 buckets even when all are empty, and some kernels run
//! nothing else on the core meanwhile. The text in /proc is read without locks, but 2 µs for each entry, and 4 KiB at a time. Where the
//! next 4 KiB begin older kernels, 6.1 among them, find by the number of entries before (net/netfilter/nf_conntrack_standalone.c,
//! `ct_get_idx`): for each that has gone meanwhile, as the kernel itself removes the outdated ones that it comes across here, another is
//! left out. So the text is read until nothing in it is new.

use std::collections::HashMap;
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

/// Up to so many entries the text is read. Older kernels walk past all buckets for each 4 KiB of it, some twenty entries.
const AS_TEXT: u32 = 500;

/// So often it is read at most.
const READS: usize = 5;

/// All connections of every protocol, of both versions of IP, where they are few. The socket has to be of the namespace of this thread.
/// `None`: they are many, or change too quickly, or their text cannot be read, or has one that only a message tells rightly.
///
/// # Errors
/// What the kernel refused.
pub fn few(socket: &mut Socket) -> Result<Option<Vec<Connection>>> {
    match count(socket)? {
        Some(0) => Ok(Some(Vec::new())),
        Some(count) if count <= AS_TEXT => Ok(settled(|| fs::read_to_string(TEXT).ok())),
        _ => Ok(None),
    }
}

/// The connections of all texts that were read until one had none that was new: what was left out of one is in the next. Missing is only
/// what was left out of two in turn, because others had gone both times.
fn settled(read: impl Fn() -> Option<String>) -> Option<Vec<Connection>> {
    let mut known: HashMap<Connection, Connection> = HashMap::new();
    for reads in 1..=READS {
        let text = read()?;
        let before = known.len();
        for line in text.lines() {
            let connection = Connection::of_line(line)?;
            // Its mark may have changed since.
            known.insert(connection.unmarked(), connection);
        }
        if reads > 1 && known.len() == before {
            return Some(known.into_values().collect());
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// The source ports and marks of what is found when these are read one after the other.
    fn found<const N: usize>(texts: [&[(u16, u32)]; N]) -> Option<Vec<(u16, u32)>> {
        let line = |(port, mark): &(u16, u32)| {
            format!(
                "ipv4 2 udp 17 29 src=192.0.2.1 dst=192.0.2.9 sport={port} dport=53 src=192.0.2.9 dst=192.0.2.1 \
                 sport=53 dport={port} mark={mark} use=2\n"
            )
        };
        let texts = RefCell::new(texts.into_iter());
        let found = settled(|| Some(texts.borrow_mut().next()?.iter().map(line).collect()));
        assert_eq!(texts.borrow_mut().next(), None, "none is read in vain");
        let mut found: Vec<_> = found?.iter().map(|found| (found.source.port(), found.mark)).collect();
        found.sort_unstable();
        Some(found)
    }

    #[test]
    fn text_is_read_until_nothing_is_new_in_it() {
        assert_eq!(found([&[], &[]]), Some(vec![]));
        assert_eq!(found([&[(1, 0), (2, 0)], &[(1, 0), (2, 0)]]), Some(vec![(1, 0), (2, 0)]));
        // One was left out, and one has gone; then one was left out the second time.
        assert_eq!(found([&[(1, 0), (2, 0)], &[(1, 0), (3, 0)], &[(1, 0)]]), Some(vec![(1, 0), (2, 0), (3, 0)]));
        // What it has become.
        assert_eq!(found([&[(1, 0)], &[(1, 4)]]), Some(vec![(1, 4)]));
        // They change too quickly.
        assert_eq!(found([&[(1, 0)], &[(2, 0)], &[(3, 0)], &[(4, 0)], &[(5, 0)]]), None);
    }
}
