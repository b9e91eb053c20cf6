//! Named counters: how many packets a rule has matched. A rule refers to its counter by name, so two rules are equal
//! whatever they have counted, and a rule that is replaced continues the count.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::NfTablesMessage;

use crate::netlink::error::Result;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::message::message;
use crate::nft::reply::{self, Reply};

/// `NFTA_OBJ_*`, `NFT_OBJECT_COUNTER`, `NFTA_COUNTER_PACKETS` (uapi/linux/netfilter/nf_tables.h).
const TABLE: u16 = 1;
const NAME: u16 = 2;
const TYPE: u16 = 3;
const DATA: u16 = 4;
pub(super) const COUNTER: u32 = 1;
pub(super) const PACKETS: u16 = 2;

fn named(table: &str, counter: &str) -> Vec<DefaultNla> {
    vec![text(TABLE, table), text(NAME, counter), of_counters()]
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

fn of_counters() -> DefaultNla {
    DefaultNla::new(TYPE, COUNTER.to_be_bytes().to_vec())
}

pub(super) fn query(table: &str, counter: &str) -> NfTablesMessage {
    NfTablesMessage::GetObject(named(table, counter))
}

/// Asks for all counters of a table.
pub(super) fn query_all(table: &str) -> NfTablesMessage {
    NfTablesMessage::GetObject(vec![text(TABLE, table), of_counters()])
}

/// The name of a counter of a table; nothing for another object. Kernels that ignore the filter list every object.
pub(super) fn name_in<'a>(table: &str, reply: &'a Reply) -> Option<&'a [u8]> {
    (reply.has(&text(TABLE, table)) && reply.has(&of_counters())).then(|| reply.get(NAME)).flatten()
}

/// Removes a counter, to which no rule refers.
pub(super) fn remove(table: &str, counter: &str) -> NfTablesMessage {
    NfTablesMessage::DeleteObject(named(table, counter))
}

/// Creates a counter at zero; one that exists keeps its count.
pub(super) fn create(table: &str, counter: &str) -> NfTablesMessage {
    let mut attributes = named(table, counter);
    attributes.push(DefaultNla::new(DATA | NLA_F_NESTED, Vec::new()));
    NfTablesMessage::NewObject(attributes)
}

/// The packet counts of these counters of a table; `None` for one that does not exist.
///
/// # Errors
/// When the kernel refuses; a table that does not exist is not an error.
pub fn counted(socket: &mut Socket, table: &str, counters: &[&str]) -> Result<Vec<Option<u64>>> {
    let query = |counter: &&str| {
        let operation = format!("read counter {counter} of table inet {table}");
        Request::new(operation, message(query(table, counter)), 0)
    };
    let replies = socket.get_all(counters.iter().map(query).collect())?;
    Ok(replies.into_iter().map(|found| found.as_ref().and_then(packets)).collect())
}

fn packets(found: &Reply) -> Option<u64> {
    let packets = reply::get(found.get(DATA)?, PACKETS)?;
    packets.try_into().ok().map(u64::from_be_bytes)
}
