//! The keys of a set whose elements have no data and one owner: ten thousand are compared as a whole, and the
//! difference is applied.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementList, SetElementMessage};

use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::element::{self, Field, KEY, LIST_ELEMENTS, VALUE};
use crate::nft::message::message;
use crate::nft::reply::{self, Reply};
use crate::nft::set::Set;

/// The longest key: two IPv6 addresses.
const LONGEST: usize = 32;

/// Elements per message: their list is one attribute, of less than 64 KiB.
const ELEMENTS: usize = 1024;

/// `NFTA_LIST_ELEM` (uapi/linux/netfilter/nf_tables.h).
const LIST_ELEMENT: u16 = 1;

/// A key as the kernel has it, padded with zeros.
type Key = [u8; LONGEST];

/// The keys that a set has or is to have, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    set: Set,
    length: usize,
    keys: Vec<Key>,
}

impl Keys {
    /// The keys of a set. One that does not match the set's types, or is longer than two IPv6 addresses, is left out.
    pub fn new(set: Set, keys: impl IntoIterator<Item: AsRef<[Field]>>) -> Self {
        let length = set.key_length();
        let fit = |fields: &[Field]| {
            let bytes = element::emit(fields);
            (bytes.len() == length).then(|| padded(&bytes))?
        };
        let keys = keys.into_iter().filter_map(|fields| fit(fields.as_ref())).collect();
        Self { set, length, keys }.sorted()
    }

    /// The set.
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// No keys, of the same set.
    pub fn none(&self) -> Self {
        Self { keys: Vec::new(), ..self.clone() }
    }

    /// The keys that are not among the others.
    pub fn without(&self, others: &Self) -> Self {
        let mut others = others.keys.iter().peekable();
        let is_new = |key: &&Key| {
            while others.next_if(|other| other < key).is_some() {}
            others.peek() != Some(key)
        };
        Self { keys: self.keys.iter().filter(is_new).copied().collect(), ..self.none() }
    }

    /// Adds them to their set of a table.
    pub fn add(&self, table: &str) -> Vec<Request<NetfilterMessage>> {
        self.requests("add to", table, NLM_F_CREATE, NfTablesMessage::NewSetElement)
    }

    /// Removes them from their set of a table. When one of them does not exist, the whole transaction is refused.
    pub fn remove(&self, table: &str) -> Vec<Request<NetfilterMessage>> {
        self.requests("remove from", table, 0, NfTablesMessage::DeleteSetElement)
    }

    fn requests(
        &self,
        verb: &str,
        table: &str,
        flags: u16,
        of: impl Fn(SetElementMessage) -> NfTablesMessage,
    ) -> Vec<Request<NetfilterMessage>> {
        let request = |keys: &[Key]| {
            let list: Vec<_> = keys.iter().flat_map(|key| listed(&key[..self.length])).collect();
            let mut attributes = element::named(table, &self.set.name);
            attributes.push(SetElementList::Other(DefaultNla::new(LIST_ELEMENTS | NLA_F_NESTED, list)));
            let operation = format!("{verb} set {} of table inet {table}", self.set.name);
            Request::new(operation, message(of(SetElementMessage { attributes })), flags)
        };
        self.keys.chunks(ELEMENTS).map(request).collect()
    }

    fn sorted(mut self) -> Self {
        self.keys.sort_unstable();
        self.keys.dedup();
        self
    }
}

/// An element of a list of elements, as an attribute.
fn listed(key: &[u8]) -> Vec<u8> {
    let wrap = |kind: u16, value: Vec<u8>| {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    wrap(LIST_ELEMENT | NLA_F_NESTED, wrap(KEY | NLA_F_NESTED, wrap(VALUE, key.to_vec())))
}

fn padded(bytes: &[u8]) -> Option<Key> {
    let mut key = [0; LONGEST];
    key.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(key)
}

/// All keys of a set. A set that does not exist has none.
///
/// # Errors
/// When the kernel refuses, or the set has other types.
pub fn keys(socket: &mut Socket, table: &str, set: &Set) -> Result<Keys> {
    let length = set.key_length();
    let operation = format!("list set {} of table inet {table}", set.name);
    let attributes = element::named(table, &set.name);
    let query = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let read = |found: Reply| {
        let key = |found: &[u8]| {
            reply::get(reply::get(found, KEY)?, VALUE).filter(|key| key.len() == length).and_then(padded)
        };
        element::listed(&found).map(key).collect::<Vec<_>>()
    };
    let found = match socket.dump_some(Request::new(operation.clone(), message(query), 0), read) {
        Err(error) if error.is_gone() => Vec::new(),
        found => found?,
    };
    let found = found.into_iter().collect::<Option<Vec<_>>>();
    let keys = found.ok_or_else(|| Error::unreadable(&operation, "it has other types"))?;
    Ok(Keys { set: set.clone(), length, keys }.sorted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::IpVersion;
    use crate::nft::{Content, Type};

    fn keys(addresses: &[&str]) -> Keys {
        let set = Set { name: "s".into(), key: vec![Type::Address(IpVersion::V4)], content: Content::Nothing };
        Keys::new(set, addresses.iter().map(|address| [Field::Address(address.parse().unwrap())]))
    }

    #[test]
    fn the_difference_is_what_one_set_has_and_the_other_lacks() {
        let (one, other) = (keys(&["10.0.0.3", "10.0.0.1", "10.0.0.1", "10.0.0.9"]), keys(&["10.0.0.2", "10.0.0.3"]));
        assert_eq!(one.len(), 3);
        assert_eq!(one.without(&other), keys(&["10.0.0.1", "10.0.0.9"]));
        assert_eq!(other.without(&one), keys(&["10.0.0.2"]));
        assert!(one.without(&one).is_empty());
        assert_eq!(one.without(&one.none()), one);
    }

    #[test]
    fn a_key_that_does_not_fit_the_set_is_left_out() {
        assert!(keys(&["fd00::1"]).is_empty());
    }
}
