//! What rules have recorded in a set ([`crate::nft::Rule::record`]): each key, and how long ago it was seen last.
//!
//! What may not live here: changing such a set; its elements are the rules'.

use std::time::Duration;

use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementMessage};

use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::element::{self, Field, KEY, VALUE};
use crate::nft::message::message;
use crate::nft::reply::{self, Reply};
use crate::nft::set::Set;

/// `NFTA_SET_ELEM_EXPIRATION` (uapi/linux/netfilter/nf_tables.h): how long it stays yet, in milliseconds.
const EXPIRATION: u16 = 5;

/// A key that a rule has recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<Field>,
    /// Time since it was recorded last.
    pub age: Duration,
}

/// What is recorded in a set. A set that does not exist has nothing.
///
/// # Errors
/// When the kernel refuses, or the set has other types.
pub fn recorded(socket: &mut Socket, table: &str, set: &Set) -> Result<Vec<Record>> {
    let operation = format!("list set {} of table inet {table}", set.name);
    let query = SetElementMessage { attributes: element::named(table, &set.name) };
    let request = Request::new(operation.clone(), message(NfTablesMessage::GetSetElement(query)), 0);
    let read = |found: Reply| element::listed(&found).map(|found| record(set, found)).collect::<Vec<_>>();
    let found = match socket.dump_some(request, read) {
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        found => found?,
    };
    let records = found.into_iter().collect::<Option<Vec<_>>>();
    records.ok_or_else(|| Error::unreadable(&operation, "it has other types"))
}

fn record(set: &Set, found: &[u8]) -> Option<Record> {
    let key = element::parse(&set.key, reply::get(reply::get(found, KEY)?, VALUE)?)?;
    let left = u64::from_be_bytes(reply::get(found, EXPIRATION)?.try_into().ok()?);
    Some(Record { key, age: set.bounds()?.timeout.saturating_sub(Duration::from_millis(left)) })
}
