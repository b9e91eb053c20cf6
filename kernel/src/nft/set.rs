//! Sets and maps: hash tables whose keys and values are single fields or concatenations, and maps of ranges of one field. Their content is in `element`.

use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetAttribute, SetFlags, SetMessage};

use crate::nft::field_type::{Type, WORD};
use crate::nft::reply::{self, Reply};
use crate::nft::{encode, type_of};

/// A set, or a map when its elements have data. The cost of a lookup does not grow with its elements, but in a
/// map of ranges with the logarithm of their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name, 255 bytes at most.
    pub name: String,
    /// The fields of a key.
    pub key: Vec<Type>,
    /// The data of its elements.
    pub content: Content,
}

/// The data of a set's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: it is a set.
    Nothing,
    /// A value of these fields: it is a map.
    Values(Vec<Type>),
    /// A value of these fields for each range of keys: it is an interval map. Its ranges do not overlap.
    Ranges(Vec<Type>),
    /// A verdict: it is a verdict map.
    Verdicts,
    /// Nothing: it is a set, whose elements count the packets that rules have found them for ([`crate::nft::tallies`]).
    Counted,
    /// Nothing: it is a set that rules add to ([`crate::nft::Rule::record`]), and nobody else.
    Recorded(Bounds),
}

/// The bounds of a set that rules add to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most elements.
    pub size: u32,
    /// How long an element stays, in whole milliseconds.
    pub timeout: Duration,
}

/// `NFTA_SET_FLAGS`, `NFTA_SET_DESC`, `NFTA_SET_DESC_SIZE` and `NFTA_SET_TIMEOUT` (uapi/linux/netfilter/nf_tables.h).
const FLAGS: u16 = 3;
const DESCRIPTION: u16 = 9;
const SIZE: u16 = 1;
const TIMEOUT: u16 = 11;
/// `NFT_SET_TIMEOUT` and `NFT_SET_EVAL`.
const WITH_TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
/// `NFTA_SET_USERDATA`.
const USER_DATA: u16 = 13;
/// `NFTA_SET_EXPR`, `NFTA_EXPR_NAME`: what each element has, and rules that find the element execute (Linux 5.7).
const EXPRESSION: u16 = 17;
const EXPRESSION_NAME: u16 = 1;
const COUNTER: &[u8] = b"counter\0";
/// `NFT_DATA_VERDICT` (uapi/linux/netfilter/nf_tables.h).
const VERDICT: u32 = 0xffff_ff00;
/// `struct nft_verdict` is a code and a pointer, in the kernel's registers.
const VERDICT_LENGTH: u32 = 16;
/// Bits per field in the type of a concatenation, by which the program `nft` lists it.
const TYPE_BITS: u32 = 6;

/// The type and the length of a field or of a concatenation.
fn layout(types: &[Type]) -> (u32, u32) {
    let number = types.iter().fold(0, |number, field| (number << TYPE_BITS) | field.number());
    let length = match types {
        [field] => field.length(),
        fields => fields.iter().map(|field| field.words() * WORD).sum(),
    };
    (number, u32::try_from(length).unwrap_or(u32::MAX))
}

impl Set {
    /// Length of a key, in bytes.
    pub(super) fn key_length(&self) -> usize {
        layout(&self.key).1 as usize
    }

    pub(super) fn query(&self, table: &str) -> NfTablesMessage {
        NfTablesMessage::GetSet(SetMessage { attributes: self.named(table) })
    }

    pub(super) fn remove(&self, table: &str) -> NfTablesMessage {
        NfTablesMessage::DeleteSet(SetMessage { attributes: self.named(table) })
    }

    /// `number` identifies the set within one transaction.
    pub(super) fn create(&self, table: &str, number: u32) -> NfTablesMessage {
        let mut attributes = self.named(table);
        attributes.push(SetAttribute::Flags(self.flags()));
        attributes.extend(self.types());
        attributes.push(SetAttribute::Id(number));
        if let Some(Bounds { size, .. }) = self.bounds() {
            let size = reply::listed(&encode::number(SIZE, size));
            attributes.push(SetAttribute::Other(DefaultNla::new(DESCRIPTION | NLA_F_NESTED, size)));
        }
        attributes.extend(self.timeout().map(|timeout| SetAttribute::Other(DefaultNla::new(TIMEOUT, timeout))));
        if self.content == Content::Counted {
            let counter = reply::listed(&DefaultNla::new(EXPRESSION_NAME, COUNTER.to_vec()));
            attributes.push(SetAttribute::Other(DefaultNla::new(EXPRESSION | NLA_F_NESTED, counter)));
        }
        let told = type_of::user_data(&self.key);
        attributes.extend(told.map(|told| SetAttribute::Other(DefaultNla::new(USER_DATA, told))));
        NfTablesMessage::NewSet(SetMessage { attributes })
    }

    fn named(&self, table: &str) -> Vec<SetAttribute> {
        vec![SetAttribute::Table(table.into()), SetAttribute::Name(self.name.clone())]
    }

    fn flags(&self) -> SetFlags {
        match self.content {
            Content::Nothing | Content::Counted => SetFlags::empty(),
            Content::Values(_) | Content::Verdicts => SetFlags::Map,
            Content::Ranges(_) => SetFlags::Map | SetFlags::Interval,
            Content::Recorded(_) => SetFlags::from_bits_retain(WITH_TIMEOUT | DYNAMIC),
        }
    }

    /// The bounds of a set that rules add to.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        if let Content::Recorded(bounds) = self.content { Some(bounds) } else { None }
    }

    /// How long elements stay, as the kernel lists it.
    fn timeout(&self) -> Option<Vec<u8>> {
        let milliseconds = |bounds: Bounds| u64::try_from(bounds.timeout.as_millis()).unwrap_or(u64::MAX);
        self.bounds().map(|bounds| milliseconds(bounds).to_be_bytes().to_vec())
    }

    fn types(&self) -> Vec<SetAttribute> {
        let (key, length) = layout(&self.key);
        let mut types = vec![SetAttribute::KeyType(key), SetAttribute::KeyLen(length)];
        match &self.content {
            Content::Nothing | Content::Counted | Content::Recorded(_) => {}
            Content::Values(fields) | Content::Ranges(fields) => {
                let (data, length) = layout(fields);
                types.extend([SetAttribute::DataType(data), SetAttribute::DataLen(length)]);
            }
            Content::Verdicts => {
                types.extend([SetAttribute::DataType(VERDICT), SetAttribute::DataLen(VERDICT_LENGTH)]);
            }
        }
        types
    }

    /// Whether the kernel's set has these types and these bounds; where none are wanted, neither a timeout nor a size limit; and
    /// whether its elements count where they should, whatever they have counted.
    pub(super) fn is(&self, found: &Reply) -> bool {
        let flags = found.number(FLAGS).unwrap_or(0) == self.flags().bits();
        let size = found.get(DESCRIPTION).and_then(|fields| reply::get(fields, SIZE));
        let size = size.and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
        let bounds = size == self.bounds().map(|bounds| bounds.size) && found.get(TIMEOUT) == self.timeout().as_deref();
        let expression = found.get(EXPRESSION).map(|expression| reply::get(expression, EXPRESSION_NAME));
        let counts = expression == (self.content == Content::Counted).then_some(Some(COUNTER));
        flags && bounds && counts && self.types().iter().all(|wanted| found.has(wanted))
    }
}
