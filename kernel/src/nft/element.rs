//! Elements of sets and maps: added, removed, queried and listed one by one, beside the elements of other owners.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage, Verdict,
    VerdictAttribute,
};

use crate::family;
use crate::netlink::error::{Error, Result};
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::nft::device_name::DeviceName;
use crate::nft::field_type::{Type, WORD};
use crate::nft::message::message;
use crate::nft::reply::{self, Reply};
use crate::nft::set::{Content, Set};
use crate::nft::table::{Table, sets};

/// An element of a set or of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The name of the set.
    pub set: String,
    /// Its key, unique in the set.
    pub key: Vec<Field>,
    /// Its data.
    pub data: Data,
    /// Its owner: a comment as the program `nft` lists it, 127 bytes at most. It tells an element from a foreign one
    /// with the same key and the same data.
    pub owner: Option<String>,
}

/// The data of an element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// Nothing: an element of a set.
    Nothing,
    /// A value: an element of a map.
    Value(Vec<Field>),
    /// A jump to the chain of this name: an element of a verdict map.
    Jump(String),
}

/// A field of a key or of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The protocol above IP (`IPPROTO_*`).
    Protocol(u8),
    /// An address.
    Address(IpAddr),
    /// A port.
    Port(u16),
    /// The name of a device.
    Device(DeviceName),
    /// A number that a program gives for itself.
    Number(u32),
}

/// `NFTA_SET_ELEM_LIST_ELEMENTS`, `NFTA_SET_ELEM_*`, `NFTA_DATA_*`, `NFTA_VERDICT_CHAIN`
/// (uapi/linux/netfilter/nf_tables.h).
pub(super) const LIST_ELEMENTS: u16 = 3;
pub(super) const KEY: u16 = 1;
pub(super) const DATA: u16 = 2;
const USER_DATA: u16 = 6;
pub(super) const VALUE: u16 = 1;
pub(super) const VERDICT: u16 = 2;
pub(super) const VERDICT_CHAIN: u16 = 2;
/// `NFTNL_UDATA_SET_ELEM_COMMENT` of libnftnl: a type, a length, and a text that ends with a zero byte.
const COMMENT: u8 = 0;
/// The longest comment that the program `nft` reads, without the zero byte.
const COMMENT_LENGTH: usize = 127;

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(6) => f.write_str("tcp"),
            Self::Protocol(17) => f.write_str("udp"),
            Self::Protocol(132) => f.write_str("sctp"),
            Self::Protocol(number) => write!(f, "{number}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Device(name) => write!(f, "\"{name}\""),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl std::fmt::Display for Element {
    /// As the program `nft` writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let join = |fields: &[Field]| fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ");
        write!(f, "{}", join(&self.key))?;
        match &self.data {
            Data::Nothing => Ok(()),
            Data::Value(fields) => write!(f, " : {}", join(fields)),
            Data::Jump(chain) => write!(f, " : jump {chain}"),
        }
    }
}

impl Field {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Protocol(number) => vec![number],
            Self::Address(address) => family::bytes(address),
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Device(name) => name.bytes(),
            Self::Number(number) => number.to_ne_bytes().to_vec(),
        }
    }

    fn parse(kind: Type, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..kind.length())?;
        match kind {
            Type::Protocol => bytes.first().copied().map(Self::Protocol),
            Type::Address(version) | Type::CarriedSource(version) | Type::QuotedDestination(version) => {
                version.address(bytes).map(Self::Address)
            }
            Type::Port => Some(Self::Port(u16::from_be_bytes(bytes.try_into().ok()?))),
            Type::DeviceName => DeviceName::parse(bytes).map(Self::Device),
            Type::Number => Some(Self::Number(u32::from_ne_bytes(bytes.try_into().ok()?))),
        }
    }
}

pub(super) fn emit(fields: &[Field]) -> Vec<u8> {
    if let [field] = fields {
        return field.bytes();
    }
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend(field.bytes());
        bytes.resize(bytes.len().next_multiple_of(WORD), 0);
    }
    bytes
}

pub(super) fn parse(types: &[Type], mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::with_capacity(types.len());
    for kind in types {
        fields.push(Field::parse(*kind, bytes)?);
        bytes = bytes.get(kind.words() * WORD..).unwrap_or_default();
    }
    Some(fields)
}

/// What the kernel has for the key of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nothing.
    Absent,
    /// The element, with its owner.
    Same,
    /// An element with other data or another owner.
    Other,
}

impl Element {
    pub(super) fn query(&self, table: &str) -> Request<NetfilterMessage> {
        let query = NfTablesMessage::GetSetElement(self.message(table, vec![self.key()]));
        Request::new(self.operation("look for", table), message(query), 0)
    }

    /// Fails when the key exists with other data; succeeds when the same element exists.
    pub(super) fn add(&self, table: &str) -> Request<NetfilterMessage> {
        let mut attributes = vec![self.key()];
        attributes.extend(self.data());
        attributes.extend(self.comment());
        let add = NfTablesMessage::NewSetElement(self.message(table, attributes));
        Request::new(self.operation("add", table), message(add), NLM_F_CREATE)
    }

    /// Removes the element with this key. When there is none, the whole transaction is refused.
    pub(super) fn delete(&self, table: &str) -> Request<NetfilterMessage> {
        let delete = NfTablesMessage::DeleteSetElement(self.message(table, vec![self.key()]));
        Request::new(self.operation("remove", table), message(delete), 0)
    }

    fn operation(&self, verb: &str, table: &str) -> String {
        format!("{verb} element {self} of set {} of table inet {table}", self.set)
    }

    fn message(&self, table: &str, attributes: Vec<SetElementAttribute>) -> SetElementMessage {
        let elements = SetElementList::Elements(vec![ListAttribute::Element(attributes)]);
        SetElementMessage { attributes: [named(table, &self.set), vec![elements]].concat() }
    }

    fn key(&self) -> SetElementAttribute {
        SetElementAttribute::Key(DataAttribute::Value(emit(&self.key)))
    }

    fn data(&self) -> Option<SetElementAttribute> {
        let data = match &self.data {
            Data::Nothing => return None,
            Data::Value(fields) => DataAttribute::Value(emit(fields)),
            Data::Jump(chain) => DataAttribute::Verdict(vec![
                VerdictAttribute::Code(Verdict::Jump),
                VerdictAttribute::Chain(chain.clone()),
            ]),
        };
        Some(SetElementAttribute::Data(data))
    }

    fn comment(&self) -> Option<SetElementAttribute> {
        let text = self.owner.as_ref()?.as_bytes();
        let text = &text[..text.len().min(COMMENT_LENGTH)];
        let length = u8::try_from(text.len() + 1).ok()?;
        Some(SetElementAttribute::UserData([&[COMMENT, length], text, &[0]].concat()))
    }

    /// Interprets the kernel's reply to the query for this element.
    fn presence(&self, reply: Option<Reply>) -> Presence {
        let Some(reply) = reply else { return Presence::Absent };
        let Some(found) = listed(&reply).next() else { return Presence::Absent };
        let is = |kind, wanted: Option<SetElementAttribute>| {
            reply::get(found, kind) == wanted.as_ref().map(reply::value).as_deref()
        };
        let same = is(KEY, Some(self.key())) && is(DATA, self.data()) && is(USER_DATA, self.comment());
        if same { Presence::Same } else { Presence::Other }
    }
}

pub(super) fn named(table: &str, set: &str) -> Vec<SetElementList> {
    vec![SetElementList::Table(table.into()), SetElementList::Set(set.into())]
}

/// The elements in a message from the kernel.
pub(super) fn listed(reply: &Reply) -> impl Iterator<Item = &[u8]> {
    let elements = reply.get(LIST_ELEMENTS).unwrap_or_default();
    reply::attributes(elements).map(|(_, element)| element)
}

/// What the kernel has for the keys of elements, in their order. A set that is not among `right` cannot be queried, and
/// has none of them.
pub(super) fn presences(
    socket: &mut Socket,
    table: &str,
    right: &[Set],
    elements: &[Element],
) -> Result<Vec<Presence>> {
    let can_have = |element: &&Element| right.iter().any(|set| set.name == element.set);
    let queries = elements.iter().filter(can_have).map(|element| element.query(table));
    let mut replies = socket.get_all(queries.collect())?.into_iter();
    let presence = |element: &Element| match can_have(&element) {
        true => element.presence(replies.next().flatten()),
        false => Presence::Absent,
    };
    Ok(elements.iter().map(presence).collect())
}

/// The elements that the kernel does not have, or has with other data or another owner. They are queried one by one:
/// the cost does not grow with what else is in their sets.
///
/// # Errors
/// When the kernel refuses; a table or set that does not exist is not an error.
pub fn missing(socket: &mut Socket, wanted: &Table, elements: &[Element]) -> Result<Vec<Element>> {
    let (_, right) = sets(socket, wanted)?;
    let presences = presences(socket, &wanted.name, &right, elements)?;
    let missing = elements.iter().zip(presences).filter(|(_, presence)| *presence != Presence::Same);
    Ok(missing.map(|(element, _)| element.clone()).collect())
}

/// All elements of a set, of any owner, sorted. A set that does not exist has none.
///
/// # Errors
/// When the kernel refuses, or the set has other types.
pub fn elements(socket: &mut Socket, table: &str, set: &Set) -> Result<Vec<Element>> {
    let operation = format!("list set {} of table inet {table}", set.name);
    let query = NfTablesMessage::GetSetElement(SetElementMessage { attributes: named(table, &set.name) });
    let read = |reply: Reply| listed(&reply).map(|element| read(set, element)).collect::<Vec<_>>();
    let found = match socket.dump_some(Request::new(operation.clone(), message(query), 0), read) {
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        other => other?,
    };
    let elements = found.into_iter().collect::<Option<Vec<_>>>();
    let mut elements = elements.ok_or_else(|| Error::unreadable(&operation, "it has other types"))?;
    elements.sort();
    Ok(elements)
}

/// An element of a set; `None` when the set has other types.
fn read(set: &Set, element: &[u8]) -> Option<Element> {
    let key = reply::get(reply::get(element, KEY)?, VALUE)?;
    let data = match &set.content {
        Content::Nothing | Content::Counted | Content::Recorded(_) => Data::Nothing,
        Content::Values(types) | Content::Ranges(types) => {
            Data::Value(parse(types, reply::get(reply::get(element, DATA)?, VALUE)?)?)
        }
        Content::Verdicts => {
            let chain = reply::get(reply::get(reply::get(element, DATA)?, VERDICT)?, VERDICT_CHAIN)?;
            Data::Jump(String::from_utf8_lossy(chain.strip_suffix(&[0])?).into_owned())
        }
    };
    let owner = reply::get(element, USER_DATA).and_then(read_comment);
    Some(Element { set: set.name.clone(), key: parse(&set.key, key)?, data, owner })
}

fn read_comment(mut bytes: &[u8]) -> Option<String> {
    while let Some((&[kind, length], rest)) = bytes.split_first_chunk() {
        let value = rest.get(..usize::from(length))?;
        if kind == COMMENT {
            return Some(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned());
        }
        bytes = &rest[usize::from(length)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::IpVersion;

    #[test]
    fn a_concatenation_is_padded_field_by_field_and_a_single_field_is_not() {
        let address = "192.0.2.1".parse().unwrap();
        let fields = [Field::Protocol(6), Field::Address(address), Field::Port(8080)];
        let types = [Type::Protocol, Type::Address(IpVersion::V4), Type::Port];
        let bytes = emit(&fields);
        assert_eq!(bytes, [6, 0, 0, 0, 192, 0, 2, 1, 0x1f, 0x90, 0, 0]);
        assert_eq!(parse(&types, &bytes).unwrap(), fields);
        assert_eq!(emit(&fields[2..]), [0x1f, 0x90]);
        assert_eq!(parse(&types[2..], &[0x1f, 0x90]).unwrap(), fields[2..]);
        assert_eq!(parse(&types, &bytes[..4]), None, "the set has other types");
    }

    #[test]
    fn a_comment_is_found_among_other_user_data() {
        assert_eq!(read_comment(&[1, 1, 9, 0, 3, b'p', b'w', 0]).as_deref(), Some("pw"));
        assert_eq!(read_comment(&[0, 9, b'p']), None);
        assert_eq!(read_comment(&[]), None);
    }
}
