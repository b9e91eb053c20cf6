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

/// `NFTA_LIST_ELEM`, `NFTA_SET_ELEM_FLAGS`, `NFT_SET_ELEM_INTERVAL_END`, `NFTA_VERDICT_CODE`, `NFT_JUMP`, `NFT_GOTO`
/// (uapi/linux/netfilter/nf_tables.h).
const LIST_ELEMENT: u16 = 1;
const FLAGS: u16 = 3;
const RANGE_END: u32 = 1;
const VERDICT_CODE: u16 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;

/// The data of an entry of a verdict map that leads somewhere else than any should.
const ELSEWHERE: u32 = u32::MAX;

/// A key as the kernel has it, padded with zeros.
type Key = [u8; LONGEST];

/// Where an entry of a verdict map leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Branch {
    /// To a chain, and back behind the rule.
    Jump(String),
    /// To a chain, and back to where the rule's chain was called from.
    Goto(String),
}

impl Branch {
    fn code(&self) -> i32 {
        match self {
            Self::Jump(_) => JUMP,
            Self::Goto(_) => GOTO,
        }
    }

    fn chain(&self) -> &str {
        let (Self::Jump(chain) | Self::Goto(chain)) = self;
        chain
    }
}

/// An entry. In a map of ranges an entry is where a range begins, or where it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: Key,
    /// The kernel sorts the end of a range before a beginning at the same place; nothing here depends on it.
    begins: bool,
    /// The value of a map of numbers; of a verdict map the place of the branch; otherwise 0.
    data: u32,
}

/// The entries that a set or a map has or is to have, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    set: Set,
    /// Where entries of a verdict map lead.
    branches: Vec<Branch>,
    length: usize,
    entries: Vec<Entry>,
}

impl Entries {
    /// The keys of a set. One that does not match the set's types, or is longer than two IPv6 addresses, is left out.
    pub fn keys(set: Set, keys: impl IntoIterator<Item: AsRef<[Field]>>) -> Self {
        Self::new(set, &[], keys.into_iter().map(|key| (key, 0)))
    }

    /// The keys and values of a map of numbers, whose values are [`crate::nft::NUMBER`]. A key has one value.
    pub fn numbers(map: Set, entries: impl IntoIterator<Item = (impl AsRef<[Field]>, u32)>) -> Self {
        Self::new(map, &[], entries)
    }

    /// The keys of a verdict map all of whose entries jump to one chain.
    pub fn jumps(map: Set, chain: &str, keys: impl IntoIterator<Item: AsRef<[Field]>>) -> Self {
        Self::branches(map, &[Branch::Jump(chain.into())], keys.into_iter().map(|key| (key, 0)))
    }

    /// The keys of a verdict map, each with the place of the branch that it takes.
    pub fn branches(
        map: Set,
        branches: &[Branch],
        entries: impl IntoIterator<Item = (impl AsRef<[Field]>, usize)>,
    ) -> Self {
        let place = |place| u32::try_from(place).unwrap_or(ELSEWHERE);
        Self::new(map, branches, entries.into_iter().map(|(key, branch)| (key, place(branch))))
    }

    /// The ranges of a map of ranges, from the first key to the last one that belongs to it, and its value. They must not
    /// overlap.
    pub fn ranges(map: Set, ranges: impl IntoIterator<Item = (Field, Field, u32)>) -> Self {
        let mut entries = Self::new(map, &[], std::iter::empty::<([Field; 1], u32)>());
        for (first, last, data) in ranges {
            entries.entries.extend(entries.entry(&[first]).map(|key| Entry { key, begins: true, data }));
            let after = entries.entry(&[last]).and_then(|key| following(key, entries.length));
            entries.entries.extend(after.map(|key| Entry { key, begins: false, data: 0 }));
        }
        entries.sorted()
    }

    fn new(set: Set, branches: &[Branch], all: impl IntoIterator<Item = (impl AsRef<[Field]>, u32)>) -> Self {
        let length = set.key_length();
        let mut entries = Self { set, branches: branches.into(), length, entries: Vec::new() };
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
        let Self { set, branches, length, .. } = self;
        Self { set: set.clone(), branches: branches.clone(), length: *length, entries: Vec::new() }
    }

    /// The entries that are not among the others, or have another value there. A range is one as a whole: the kernel takes no end
    /// whose beginning is there already (`EEXIST`, seen with 6.18).
    pub fn without(&self, others: &Self) -> Self {
        let mut others = others.whole().peekable();
        let is_new = |entry: &&[Entry]| {
            while others.next_if(|other| other < entry).is_some() {}
            others.peek() != Some(entry)
        };
        Self { entries: self.whole().filter(is_new).flatten().copied().collect(), ..self.none() }
    }

    /// Each entry; of a map of ranges a beginning with its end.
    fn whole(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|_, next| !next.begins)
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
            let mut list = Vec::with_capacity(entries.len() * 64);
            entries.iter().for_each(|entry| self.list(entry, with_data, &mut list));
            let mut attributes = element::named(table, &self.set.name);
            attributes.push(SetElementList::Other(DefaultNla::new(LIST_ELEMENTS | NLA_F_NESTED, list)));
            let operation = format!("{verb} set {} of table inet {table}", self.set.name);
            Request::new(operation, message(of(SetElementMessage { attributes })), flags)
        };
        self.entries.chunks(ENTRIES).map(request).collect()
    }

    /// An entry of a list of elements, as an attribute behind others.
    fn list(&self, entry: &Entry, with_data: bool, list: &mut Vec<u8>) {
        nested(list, LIST_ELEMENT, |list| {
            nested(list, KEY, |list| attribute(list, VALUE, &[&entry.key[..self.length]]));
            if !entry.begins {
                attribute(list, FLAGS, &[&RANGE_END.to_be_bytes()]);
            } else if with_data {
                self.data(entry, list);
            }
        });
    }

    fn data(&self, entry: &Entry, list: &mut Vec<u8>) {
        match self.set.content {
            Content::Nothing | Content::Counted | Content::Recorded(_) => {}
            Content::Values(_) | Content::Ranges(_) => {
                nested(list, DATA, |list| attribute(list, VALUE, &[&[0; 4], &entry.data.to_ne_bytes()]));
            }
            Content::Verdicts => {
                // What is made here leads to one of them.
                let branch = usize::try_from(entry.data).ok().and_then(|place| self.branches.get(place));
                let Some(branch) = branch else { return };
                nested(list, DATA, |list| {
                    nested(list, VERDICT, |list| {
                        attribute(list, VERDICT_CODE, &[&branch.code().to_be_bytes()]);
                        attribute(list, VERDICT_CHAIN, &[branch.chain().as_bytes(), &[0]]);
                    });
                });
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
                let verdict = reply::get(reply::get(found, DATA)?, VERDICT)?;
                let chain = reply::get(verdict, VERDICT_CHAIN).and_then(|chain| chain.strip_suffix(&[0]));
                let code = reply::get(verdict, VERDICT_CODE);
                let leads = |branch: &Branch| {
                    chain == Some(branch.chain().as_bytes()) && code == Some(&branch.code().to_be_bytes())
                };
                let place = self.branches.iter().position(leads);
                place.and_then(|place| u32::try_from(place).ok()).unwrap_or(ELSEWHERE)
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

/// Adds an attribute that has others in it.
fn nested(bytes: &mut Vec<u8>, kind: u16, inner: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend([[0; 2], (kind | NLA_F_NESTED).to_ne_bytes()].as_flattened());
    inner(bytes);
    let length = u16::try_from(bytes.len() - start).unwrap_or(u16::MAX);
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
}

/// Adds an attribute whose value has these parts.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[&[u8]]) {
    let length = u16::try_from(value.iter().map(|part| part.len()).sum::<usize>() + 4).unwrap_or(u16::MAX);
    bytes.extend([length.to_ne_bytes(), kind.to_ne_bytes()].as_flattened());
    value.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
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
    fn a_range_that_has_another_end_or_beginning_is_another_one_as_a_whole() {
        let field = |text: &str| Field::Address(text.parse().unwrap());
        let ranges = |all: &[(&str, &str)]| {
            let ranges = all.iter().map(|(first, last)| (field(first), field(last), 1));
            Entries::ranges(set(Content::Ranges(NUMBER.into())), ranges)
        };
        let kept = ("10.0.0.0", "10.0.0.3");
        let (one, other) = (ranges(&[kept, ("10.0.0.4", "10.0.0.7")]), ranges(&[kept, ("10.0.0.4", "10.0.0.5")]));
        assert_eq!(one.without(&other), ranges(&[("10.0.0.4", "10.0.0.7")]));
        assert_eq!(other.without(&one), ranges(&[("10.0.0.4", "10.0.0.5")]));
        assert_eq!(one.without(&ranges(&[kept])).len(), 2);
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
