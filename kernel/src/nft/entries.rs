//! The entries of a set or of a map as a whole, of one owner: ten thousand are compared at once, and the difference is
//! applied.
//!
//! What may not live here: single elements beside those of other owners (`element`).

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementList, SetElementMessage};

use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::element::{self, DATA, Field, KEY, LIST_ELEMENTS, VALUE, VERDICT, VERDICT_CHAIN};
use crate::nft::message::message;
use crate::nft::reply::{self, Reply};
use crate::nft::set::{Content, Set};

/// The longest key: two IPv6 addresses.
const LONGEST: usize = 32;

/// Entries per message: their list is one attribute, of less than 64 KiB.
const ENTRIES: usize = 512;

/// `NFTA_LIST_ELEM`, `NFTA_SET_ELEM_FLAGS`, `NFT_SET_ELEM_INTERVAL_END`, `NFTA_VERDICT_CODE`, `NFT_JUMP`
/// (uapi/linux/netfilter/nf_tables.h).
const LIST_ELEMENT: u16 = 1;
const FLAGS: u16 = 3;
const RANGE_END: u32 = 1;
const VERDICT_CODE: u16 = 1;
const JUMP: i32 = -3;

/// The data of an entry of a verdict map that jumps to another chain than it should.
const ELSEWHERE: u32 = 1;

/// A key as the kernel has it, padded with zeros.
type Key = [u8; LONGEST];

/// An entry. In a map of ranges an entry is where a range begins, or where it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: Key,
    /// The kernel sorts the end of a range before a beginning at the same place; nothing here depends on it.
    begins: bool,
    /// The value of a map of numbers; otherwise 0.
    data: u32,
}

/// The entries that a set or a map has or is to have, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    set: Set,
    /// The chain that all entries of a verdict map jump to.
    chain: String,
    length: usize,
    entries: Vec<Entry>,
}

impl Entries {
    /// The keys of a set. One that does not match the set's types, or is longer than two IPv6 addresses, is left out.
    pub fn keys(set: Set, keys: impl IntoIterator<Item: AsRef<[Field]>>) -> Self {
        Self::new(set, "", keys.into_iter().map(|key| (key, 0)))
    }

    /// The keys and values of a map of numbers, whose values are [`crate::nft::NUMBER`]. A key has one value.
    pub fn numbers(map: Set, entries: impl IntoIterator<Item = (impl AsRef<[Field]>, u32)>) -> Self {
        Self::new(map, "", entries)
    }

    /// The keys of a verdict map all of whose entries jump to one chain.
    pub fn jumps(map: Set, chain: &str, keys: impl IntoIterator<Item: AsRef<[Field]>>) -> Self {
        Self::new(map, chain, keys.into_iter().map(|key| (key, 0)))
    }

    /// The ranges of a map of ranges, from the first key to the last one that belongs to it, and its value. They must not
    /// overlap.
    pub fn ranges(map: Set, ranges: impl IntoIterator<Item = (Field, Field, u32)>) -> Self {
        let mut entries = Self::new(map, "", std::iter::empty::<([Field; 1], u32)>());
        for (first, last, data) in ranges {
            entries.entries.extend(entries.entry(&[first]).map(|key| Entry { key, begins: true, data }));
            let after = entries.entry(&[last]).and_then(|key| following(key, entries.length));
            entries.entries.extend(after.map(|key| Entry { key, begins: false, data: 0 }));
        }
        entries.sorted()
    }

    fn new(set: Set, chain: &str, all: impl IntoIterator<Item = (impl AsRef<[Field]>, u32)>) -> Self {
        let length = set.key_length();
        let mut entries = Self { set, chain: chain.into(), length, entries: Vec::new() };
        let all = all.into_iter().filter_map(|(key, data)| {
            let key = entries.entry(key.as_ref())?;
            Some(Entry { key, begins: true, data })
        });
        entries.entries = all.collect();
        entries.sorted()
    }

    fn entry(&self, fields: &[Field]) -> Option<Key> {
        let bytes = element::emit(fields);
        (bytes.len() == self.length).then(|| padded(&bytes))?
    }

    /// The set.
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// How many there are; a range counts as two.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// No entries, of the same set.
    pub fn none(&self) -> Self {
        let Self { set, chain, length, .. } = self;
        Self { set: set.clone(), chain: chain.clone(), length: *length, entries: Vec::new() }
    }

    /// The entries that are not among the others, or have another value there.
    pub fn without(&self, others: &Self) -> Self {
        let mut others = others.entries.iter().peekable();
        let is_new = |entry: &&Entry| {
            while others.next_if(|other| other < entry).is_some() {}
            others.peek() != Some(entry)
        };
        Self { entries: self.entries.iter().filter(is_new).copied().collect(), ..self.none() }
    }

    /// Adds them to their set of a table. What has another value there has to be removed first, in the same transaction.
    pub fn add(&self, table: &str) -> Vec<Request<NetfilterMessage>> {
        self.requests("add to", table, NLM_F_CREATE, true, NfTablesMessage::NewSetElement)
    }

    /// Removes them from their set of a table. When one of them does not exist, the whole transaction is refused.
    pub fn remove(&self, table: &str) -> Vec<Request<NetfilterMessage>> {
        self.requests("remove from", table, 0, false, NfTablesMessage::DeleteSetElement)
    }

    fn requests(
        &self,
        verb: &str,
        table: &str,
        flags: u16,
        with_data: bool,
        of: impl Fn(SetElementMessage) -> NfTablesMessage,
    ) -> Vec<Request<NetfilterMessage>> {
        let request = |entries: &[Entry]| {
            let list: Vec<_> = entries.iter().flat_map(|entry| self.listed(entry, with_data)).collect();
            let mut attributes = element::named(table, &self.set.name);
            attributes.push(SetElementList::Other(DefaultNla::new(LIST_ELEMENTS | NLA_F_NESTED, list)));
            let operation = format!("{verb} set {} of table inet {table}", self.set.name);
            Request::new(operation, message(of(SetElementMessage { attributes })), flags)
        };
        self.entries.chunks(ENTRIES).map(request).collect()
    }

    /// An entry of a list of elements, as an attribute.
    fn listed(&self, entry: &Entry, with_data: bool) -> Vec<u8> {
        let mut parts = nested(KEY, &attribute(VALUE, &entry.key[..self.length]));
        if !entry.begins {
            parts.extend(attribute(FLAGS, &RANGE_END.to_be_bytes()));
        } else if with_data {
            parts.extend(self.data(entry));
        }
        nested(LIST_ELEMENT, &parts)
    }

    fn data(&self, entry: &Entry) -> Vec<u8> {
        match self.set.content {
            Content::Nothing | Content::Recorded(_) => Vec::new(),
            Content::Values(_) | Content::Ranges(_) => {
                let value = [[0; 4], entry.data.to_ne_bytes()].concat();
                nested(DATA, &attribute(VALUE, &value))
            }
            Content::Verdicts => {
                let chain = attribute(VERDICT_CHAIN, &[self.chain.as_bytes(), &[0]].concat());
                nested(DATA, &nested(VERDICT, &[attribute(VERDICT_CODE, &JUMP.to_be_bytes()), chain].concat()))
            }
        }
    }

    /// An entry as the kernel lists it; `None` when the set has other types.
    fn read(&self, found: &[u8]) -> Option<Entry> {
        let key = reply::get(reply::get(found, KEY)?, VALUE).filter(|key| key.len() == self.length)?;
        let flags = reply::get(found, FLAGS).and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_be_bytes);
        let begins = flags & RANGE_END == 0;
        let data = match self.set.content {
            Content::Values(_) | Content::Ranges(_) if begins => {
                let value = reply::get(reply::get(found, DATA)?, VALUE)?;
                u32::from_ne_bytes(value.strip_prefix(&[0; 4])?.try_into().ok()?)
            }
            Content::Verdicts => {
                let chain = reply::get(reply::get(reply::get(found, DATA)?, VERDICT)?, VERDICT_CHAIN);
                let is_ours = chain.is_some_and(|chain| chain.strip_suffix(&[0]) == Some(self.chain.as_bytes()));
                if is_ours { 0 } else { ELSEWHERE }
            }
            _ => 0,
        };
        Some(Entry { key: padded(key)?, begins, data })
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_unstable();
        self.entries.dedup();
        self
    }
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NLA_F_NESTED, value)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn padded(bytes: &[u8]) -> Option<Key> {
    let mut key = [0; LONGEST];
    key.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(key)
}

/// The key behind this one; there is none behind the last.
fn following(mut key: Key, length: usize) -> Option<Key> {
    for byte in key[..length].iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(key);
        }
    }
    None
}

/// All entries of the set of these. A set that does not exist has none.
///
/// # Errors
/// When the kernel refuses, or the set has other types.
pub fn entries(socket: &mut Socket, table: &str, like: &Entries) -> Result<Entries> {
    let set = &like.set;
    let operation = format!("list set {} of table inet {table}", set.name);
    let attributes = element::named(table, &set.name);
    let query = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let read = |found: Reply| element::listed(&found).map(|found| like.read(found)).collect::<Vec<_>>();
    let found = match socket.dump_some(Request::new(operation.clone(), message(query), 0), read) {
        Err(error) if error.is_gone() => Vec::new(),
        found => found?,
    };
    let found = found.into_iter().collect::<Option<Vec<_>>>();
    let entries = found.ok_or_else(|| Error::unreadable(&operation, "it has other types"))?;
    Ok(Entries { entries, ..like.none() }.sorted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::IpVersion;
    use crate::nft::{NUMBER, Type};

    fn set(content: Content) -> Set {
        Set { name: "s".into(), key: vec![Type::Address(IpVersion::V4)], content }
    }

    fn keys(addresses: &[&str]) -> Entries {
        Entries::keys(set(Content::Nothing), addresses.iter().map(|address| [Field::Address(address.parse().unwrap())]))
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

    #[test]
    fn another_value_is_a_difference_both_ways() {
        let numbers = |value| {
            let key = [Field::Address("10.0.0.1".parse().unwrap())];
            Entries::numbers(set(Content::Values(NUMBER.into())), [(key, value)])
        };
        assert_eq!(numbers(7).without(&numbers(8)), numbers(7));
        assert_eq!(numbers(8).without(&numbers(7)), numbers(8));
        assert!(numbers(7).without(&numbers(7)).is_empty());
    }

    #[test]
    fn a_range_ends_behind_its_last_key_and_the_last_of_all_does_not() {
        let ranges = |first: &str, last: &str| {
            let field = |text: &str| Field::Address(text.parse().unwrap());
            Entries::ranges(set(Content::Ranges(NUMBER.into())), [(field(first), field(last), 1)])
        };
        let ends = |ranges: &Entries| {
            let end = ranges.entries.iter().find(|entry| !entry.begins);
            end.map(|entry| entry.key[..4].to_vec())
        };
        assert_eq!(ends(&ranges("10.0.0.0", "10.0.255.255")), Some(vec![10, 1, 0, 0]));
        assert_eq!(ends(&ranges("10.0.0.7", "10.0.0.7")), Some(vec![10, 0, 0, 8]));
        assert_eq!(ends(&ranges("240.0.0.0", "255.255.255.255")), None);
    }
}
