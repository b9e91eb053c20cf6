//! Combinations of subjects, peers and ports as entries of the sets and maps of table `inet podwire-policy`. Pure.
//!
//! What may not live here: whose the numbers are.

use podwire_kernel::nft::{Entries, Field};

use crate::datapath::policy::layout::{self, ANY_PEER, ANY_PEER_RANGE, ANY_PORT, EVERYTHING};
use crate::policy::element::{Combination, Decided, ListedPort, Listing, PortOrRange};
use crate::policy::network_policy::Direction;

/// The sets and maps, in the order of their entries.
const NAMES: [&str; 4] = [ANY_PORT, ANY_PEER, ANY_PEER_RANGE, EVERYTHING];

/// What is allowed, in each set; of those that have nothing only `with_empty`.
pub(super) fn allowed(direction: Direction, all: &[Combination], with_empty: bool) -> [Option<Entries>; 4] {
    NAMES.map(|name| {
        let mut of = all.iter().filter(|combination| is_in(combination) == name).peekable();
        (with_empty || of.peek().is_some()).then(|| Entries::keys(layout::allowed(direction, name), of.map(key)))
    })
}

/// What is decided, in each map, likewise.
pub(super) fn decided(direction: Direction, all: &[Decided], with_empty: bool) -> [Option<Entries>; 4] {
    NAMES.map(|name| {
        let mut of = all.iter().filter(|decided| is_in(&decided.combination) == name).peekable();
        (with_empty || of.peek().is_some()).then(|| {
            let entries = of.map(|decided| (key(&decided.combination), layout::number(decided.decision)));
            Entries::numbers(layout::decided(direction, name), entries)
        })
    })
}

/// The lists that subjects have for classes.
pub(super) fn listings(direction: Direction, all: &[Listing], with_empty: bool) -> Option<Entries> {
    let entries = all.iter().map(|one| ([Field::Number(one.subject.0), Field::Number(one.class.0)], one.list.0));
    (with_empty || !all.is_empty()).then(|| Entries::numbers(layout::ports(direction), entries))
}

/// What lists say of ports, and of ranges.
pub(super) fn listed(all: &[ListedPort], with_empty: bool) -> [Option<Entries>; 2] {
    let key = |line: &ListedPort| {
        let (protocol, ports, _) = line.listed;
        let ports = match ports {
            PortOrRange::Port(port) => Field::Port(port),
            PortOrRange::Range(range) => Field::Number(range.0),
        };
        [Field::Number(line.list.0), Field::Protocol(protocol.number()), ports]
    };
    let is_port = |line: &ListedPort| matches!(line.listed.1, PortOrRange::Port(_));
    [(layout::listed_port(), true), (layout::listed_range(), false)].map(|(set, of_ports)| {
        let mut of = all.iter().filter(|line| is_port(line) == of_ports).peekable();
        (with_empty || of.peek().is_some())
            .then(|| Entries::numbers(set, of.map(|line| (key(line), layout::number(line.listed.2)))))
    })
}

fn is_in(combination: &Combination) -> &'static str {
    match combination {
        Combination::AnyPort(..) => ANY_PORT,
        Combination::AnyPeer(..) => ANY_PEER,
        Combination::AnyPeerRange(..) => ANY_PEER_RANGE,
        Combination::Everything(..) => EVERYTHING,
    }
}

/// The fields of a key, as many as there are.
struct Key {
    fields: [Field; 3],
    length: usize,
}

impl AsRef<[Field]> for Key {
    fn as_ref(&self) -> &[Field] {
        &self.fields[..self.length]
    }
}

impl<const LENGTH: usize> From<[Field; LENGTH]> for Key {
    fn from(some: [Field; LENGTH]) -> Self {
        let mut fields = [Field::Number(0); 3];
        fields[..LENGTH].copy_from_slice(&some);
        Self { fields, length: LENGTH }
    }
}

fn key(combination: &Combination) -> Key {
    use Field::{Number, Port, Protocol};
    match combination {
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
