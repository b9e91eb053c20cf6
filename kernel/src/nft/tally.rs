//! What the elements of a set have counted: how often rules have found each. An element that stays in its set continues its count,
//! whatever is added and removed beside it.
//!
//! What may not live here: named counters (`counter`).

use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementMessage};

use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::counter::PACKETS;
use crate::nft::element::{self, Field, KEY, VALUE};
use crate::nft::message::message;
use crate::nft::reply::{self, Reply};
use crate::nft::set::Set;

/// `NFTA_SET_ELEM_EXPR`, `NFTA_EXPR_DATA` (uapi/linux/netfilter/nf_tables.h).
const EXPRESSION: u16 = 7;
const EXPRESSION_DATA: u16 = 2;

/// What an element has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Its key.
    pub key: Vec<Field>,
    /// How many packets.
    pub packets: u64,
}

/// What the elements of a set that counts have counted ([`crate::nft::Content::Counted`]). A set that does not exist has none.
///
/// # Errors
/// When the kernel refuses, or the set has other types.
pub fn tallies(socket: &mut Socket, table: &str, set: &Set) -> Result<Vec<Tally>> {
    let operation = format!("list set {} of table inet {table}", set.name);
    let query = SetElementMessage { attributes: element::named(table, &set.name) };
    let request = Request::new(operation.clone(), message(NfTablesMessage::GetSetElement(query)), 0);
    let read = |found: Reply| element::listed(&found).map(|found| tally(set, found)).collect::<Vec<_>>();
    let found = match socket.dump_some(request, read) {
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        found => found?,
    };
    let tallies = found.into_iter().collect::<Option<Vec<_>>>();
    tallies.ok_or_else(|| Error::unreadable(&operation, "it has other types"))
}

fn tally(set: &Set, found: &[u8]) -> Option<Tally> {
    let key = element::parse(&set.key, reply::get(reply::get(found, KEY)?, VALUE)?)?;
    let packets = reply::get(reply::get(reply::get(found, EXPRESSION)?, EXPRESSION_DATA)?, PACKETS)?;
    Some(Tally { key, packets: u64::from_be_bytes(packets.try_into().ok()?) })
}
