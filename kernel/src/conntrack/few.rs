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

/// A text of fewer bytes is one of the parts, which end where the next entry, of some hundred bytes, would not fit into 4 KiB: nothing was
/// left out of it.
const IN_ONE_PART: usize = 3_000;

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

/// The connections of all texts that were read until one was short, or had none that was new: what was left out of one is in the next.
/// Missing is only what was left out of two in turn, because others had gone both times.
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
        if text.len() < IN_ONE_PART || reads > 1 && known.len() == before {
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
    use std::collections::BTreeSet;

    use super::*;

    /// From which ports what is found is, and its marks, when texts with the connections from these ports, with these marks, are read one after the other.
    fn found<const N: usize>(texts: [(&[u16], u32); N]) -> Option<(Vec<u16>, BTreeSet<u32>)> {
        let text = |(ports, mark): (&[u16], u32)| -> String {
            let line = |port: &u16| {
                format!(
                    "ipv4 2 udp 17 29 src=192.0.2.1 dst=192.0.2.9 sport={port} dport=53 src=192.0.2.9 dst=192.0.2.1 \
                     sport=53 dport={port} mark={mark} use=2\n"
                )
            };
            ports.iter().map(line).collect()
        };
        let texts = RefCell::new(texts.into_iter());
        let found = settled(|| texts.borrow_mut().next().map(text));
        assert!(texts.borrow_mut().next().is_none(), "none is read in vain");
        let found = found?;
        let mut ports: Vec<_> = found.iter().map(|connection| connection.source.port()).collect();
        ports.sort_unstable();
        Some((ports, found.iter().map(|connection| connection.mark).collect()))
    }

    #[test]
    fn a_short_text_is_read_once() {
        assert_eq!(found([(&[], 0)]), Some((vec![], BTreeSet::new())));
        assert_eq!(found([(&[1, 2], 0)]), Some((vec![1, 2], BTreeSet::from([0]))));
    }

    #[test]
    fn a_longer_text_is_read_until_nothing_is_new_in_it() {
        let all: Vec<u16> = (0..60).collect();
        let but = |left_out: u16| all.iter().copied().filter(|port| *port != left_out).collect::<Vec<_>>();
        let whole = Some((all.clone(), BTreeSet::from([0])));
        assert_eq!(found([(&all, 0), (&all, 0)]), whole);
        // One was left out, then another, which may have gone.
        assert_eq!(found([(&but(7), 0), (&but(9), 0), (&but(9), 0)]), whole);
        // What has become of one.
        assert_eq!(found([(&all, 0), (&all, 4)]), Some((all.clone(), BTreeSet::from([4]))));
        // They change too quickly.
        let later = [100, 200, 300, 400].map(|first| (first..first + 60).collect::<Vec<u16>>());
        assert_eq!(found([(&all, 0), (&later[0], 0), (&later[1], 0), (&later[2], 0), (&later[3], 0)]), None,);
    }
}
