//! Combinations of subjects, peers and ports as entries of the sets and maps of table `inet podwire-policy`. Pure.
//!
//! What may not live here: whose the numbers are.

use podwire_kernel::nft::{Entries, Field};

use crate::datapath::policy::layout::{self, ANY_PEER, ANY_PEER_RANGE, ANY_PORT, EVERYTHING, PORT, PORT_RANGE};
use crate::policy::element::{Combination, Decided};
use crate::policy::network_policy::Direction;

/// The sets and maps, in the order of their entries.
const NAMES: [&str; 6] = [PORT, PORT_RANGE, ANY_PORT, ANY_PEER, ANY_PEER_RANGE, EVERYTHING];

/// What is allowed, in each set; of those that have nothing only `with_empty`.
pub(super) fn allowed(direction: Direction, all: &[Combination], with_empty: bool) -> [Option<Entries>; 6] {
    NAMES.map(|name| {
        let mut of = all.iter().filter(|combination| is_in(combination) == name).peekable();
        (with_empty || of.peek().is_some()).then(|| Entries::keys(layout::allowed(direction, name), of.map(key)))
    })
}

/// What is decided, in each map, likewise.
pub(super) fn decided(direction: Direction, all: &[Decided], with_empty: bool) -> [Option<Entries>; 6] {
    NAMES.map(|name| {
        let mut of = all.iter().filter(|decided| is_in(&decided.combination) == name).peekable();
        (with_empty || of.peek().is_some()).then(|| {
            let entries = of.map(|decided| (key(&decided.combination), layout::number(decided.decision)));
            Entries::numbers(layout::decided(direction, name), entries)
        })
    })
}

fn is_in(combination: &Combination) -> &'static str {
    match combination {
        Combination::Port(..) => PORT,
        Combination::Range(..) => PORT_RANGE,
        Combination::AnyPort(..) => ANY_PORT,
        Combination::AnyPeer(..) => ANY_PEER,
        Combination::AnyPeerRange(..) => ANY_PEER_RANGE,
        Combination::Everything(..) => EVERYTHING,
    }
}

/// The fields of a key, as many as there are.
struct Key {
    fields: [Field; 4],
    length: usize,
}

impl AsRef<[Field]> for Key {
    fn as_ref(&self) -> &[Field] {
        &self.fields[..self.length]
    }
}

impl<const LENGTH: usize> From<[Field; LENGTH]> for Key {
    fn from(some: [Field; LENGTH]) -> Self {
        let mut fields = [Field::Number(0); 4];
        fields[..LENGTH].copy_from_slice(&some);
        Self { fields, length: LENGTH }
    }
}

fn key(combination: &Combination) -> Key {
    use Field::{Number, Port, Protocol};
    match combination {
        Combination::Port(subject, class, protocol, port) => {
            [Number(subject.0), Number(class.0), Protocol(protocol.number()), Port(*port)].into()
        }
        Combination::Range(subject, class, protocol, range) => {
            [Number(subject.0), Number(class.0), Protocol(protocol.number()), Number(range.0)].into()
        }
        Combination::AnyPort(subject, class) => [Number(subject.0), Number(class.0)].into(),
        Combination::AnyPeer(subject, protocol, port) => {
            [Number(subject.0), Protocol(protocol.number()), Port(*port)].into()
        }
        Combination::AnyPeerRange(subject, protocol, range) => {
            [Number(subject.0), Protocol(protocol.number()), Number(range.0)].into()
        }
        Combination::Everything(subject) => [Number(subject.0)].into(),
    }
}
