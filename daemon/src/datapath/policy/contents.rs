//! The contents of the sets of table `inet podwire-policy`: what the policies were compiled to, as the kernel looks it up. Pure.
//!
//! What may not live here: the sets themselves and the rules that ask them (`layout`).

use std::net::IpAddr;

use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Entries, Field};

use crate::datapath::policy::layout::{
    self, ANY_PEER, ANY_PEER_RANGE, ANY_PORT, EVERYTHING, PORT, PORT_RANGE, allowed, chain_name,
};
use crate::policy::compiled::{Compiled, Matrix};
use crate::policy::element::Allowed;
use crate::policy::network_policy::Direction;
use crate::policy::port::Protocol;

/// The contents of all sets.
pub(crate) fn contents(compiled: &Compiled) -> Vec<Entries> {
    let ranges = compiled.ports.iter();
    let ranges = ranges.map(|segment| (Field::Port(segment.first), Field::Port(segment.last), segment.range.0));
    let mut all = vec![Entries::ranges(layout::ranges(), ranges)];
    for direction in Direction::BOTH {
        let matrix = compiled.matrix(direction);
        all.extend(of_matrix(direction, matrix));
        for version in IpVersion::BOTH {
            let subjects = || matrix.subjects.iter().filter(|(address, _)| IpVersion::of(**address) == version);
            let isolated = subjects().map(|(address, _)| [Field::Address(*address)]);
            let numbers = subjects().map(|(address, subject)| ([Field::Address(*address)], subject.0));
            let chain = chain_name(direction, version);
            all.extend([
                Entries::jumps(layout::isolated(direction, version), &chain, isolated),
                Entries::numbers(layout::subjects(direction, version), numbers),
            ]);
        }
    }
    all.extend(IpVersion::BOTH.into_iter().flat_map(|version| of_peers(compiled, version)));
    all
}

fn of_peers(compiled: &Compiled, version: IpVersion) -> [Entries; 3] {
    let is = |address: &IpAddr| IpVersion::of(*address) == version;
    let peers = compiled.peers.iter().filter(|(address, _)| is(address));
    let peers = peers.map(|(address, class)| ([Field::Address(*address)], class.0));
    let blocks = compiled.blocks.iter().filter(|segment| is(&segment.first));
    let blocks = blocks.map(|segment| (Field::Address(segment.first), Field::Address(segment.last), segment.class.0));
    let own = Direction::BOTH.into_iter().flat_map(|direction| compiled.matrix(direction).subjects.keys());
    let own = own.filter(|address| is(address)).map(|address| [Field::Address(*address); 2]);
    [
        Entries::numbers(layout::peers(version), peers),
        Entries::ranges(layout::blocks(version), blocks),
        Entries::keys(layout::itself(version), own),
    ]
}

fn of_matrix(direction: Direction, matrix: &Matrix) -> [Entries; 6] {
    let number = |protocol: &Protocol| Field::Protocol(protocol.number());
    let of = |name: &str, key: &dyn Fn(&Allowed) -> Option<Vec<Field>>| {
        Entries::keys(allowed(direction, name), matrix.allowed.iter().filter_map(key))
    };
    use Field::{Number, Port};
    [
        of(PORT, &|allowed| match allowed {
            Allowed::Port(subject, class, protocol, port) => {
                Some(vec![Number(subject.0), Number(class.0), number(protocol), Port(*port)])
            }
            _ => None,
        }),
        of(PORT_RANGE, &|allowed| match allowed {
            Allowed::Range(subject, class, protocol, range) => {
                Some(vec![Number(subject.0), Number(class.0), number(protocol), Number(range.0)])
            }
            _ => None,
        }),
        of(ANY_PORT, &|allowed| match allowed {
            Allowed::AnyPort(subject, class) => Some(vec![Number(subject.0), Number(class.0)]),
            _ => None,
        }),
        of(ANY_PEER, &|allowed| match allowed {
            Allowed::AnyPeer(subject, protocol, port) => Some(vec![Number(subject.0), number(protocol), Port(*port)]),
            _ => None,
        }),
        of(ANY_PEER_RANGE, &|allowed| match allowed {
            Allowed::AnyPeerRange(subject, protocol, range) => {
                Some(vec![Number(subject.0), number(protocol), Number(range.0)])
            }
            _ => None,
        }),
        of(EVERYTHING, &|allowed| match allowed {
            Allowed::Everything(subject) => Some(vec![Number(subject.0)]),
            _ => None,
        }),
    ]
}
