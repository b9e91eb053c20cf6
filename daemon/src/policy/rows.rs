//! What becomes of each port, for one subject and the peers of one class: a row. And the fewest elements from which it follows, where
//! what is said of everybody holds for those of whom nothing else is said.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::element::{Class, Combination, Decided, Decision, PortOrRange, PortRange, Subject};
use crate::policy::elements::Elements;
use crate::policy::port::{Protocol, Which};
use crate::policy::port_ranges::PortRanges;
use crate::policy::rules::ClassKey;
use crate::policy::tiers::{Asked, Outcome, TierRule, Tiers};

/// What becomes of each port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Of every protocol and port that is not below.
    any: Option<Decision>,
    /// Of the ports of a range that are not below.
    ranges: BTreeMap<(Protocol, PortRange), Decision>,
    ports: BTreeMap<(Protocol, u16), Decision>,
}

impl Row {
    /// Of a peer, or of whoever is none of the peers that have classes.
    pub(super) fn of(tiers: &Tiers, key: Option<&ClassKey>, ranges: &PortRanges) -> Self {
        let places = tiers.of_peer(key);
        let (mut numbers, mut parts) = (BTreeSet::new(), BTreeSet::new());
        let rules = places.iter().filter_map(|place| tiers.rule(*place));
        for ports in rules.flat_map(|(rule, _)| rule.ports.iter().flatten()) {
            let protocol = ports.protocol;
            match &ports.which {
                Which::Number(port) => _ = numbers.insert((protocol, *port)),
                Which::Range(first, last) => {
                    parts.extend(ranges.parts((*first, *last)).map(|part| (protocol, part)));
                }
                Which::Named(name) => {
                    let own = key.into_iter().flat_map(|key| key.numbers(name, protocol));
                    numbers.extend(own.map(|port| (protocol, port)));
                }
            }
        }
        let decide = |matches: &dyn Fn(&TierRule) -> bool| {
            let is_denied = |asked| matches!(tiers.decide(&places, asked, matches, |_| {}), Outcome::Denied(_));
            match is_denied(Asked::Enforced) {
                true => Decision::Refuse,
                false if tiers.have_audits() && is_denied(Asked::All) => Decision::WouldRefuse,
                false => Decision::Allow,
            }
        };
        let of_range = |(protocol, part): (Protocol, PortRange)| {
            let in_range = |rule: &TierRule| {
                rule.ports.as_ref().is_none_or(|all| {
                    all.iter().any(|ports| match ports.which {
                        Which::Range(first, last) => {
                            ports.protocol == protocol && ranges.parts((first, last)).any(|other| other == part)
                        }
                        _ => false,
                    })
                })
            };
            decide(&in_range)
        };
        let of_port = |port: (Protocol, u16)| decide(&|rule: &TierRule| rule.is_about(key, Some(port)));
        Self {
            any: Some(decide(&|rule: &TierRule| rule.ports.is_none())),
            ranges: parts.into_iter().map(|part| (part, of_range(part))).collect(),
            ports: numbers.into_iter().map(|port| (port, of_port(port))).collect(),
        }
    }

    fn at_range(&self, part: (Protocol, PortRange)) -> Option<Decision> {
        self.ranges.get(&part).copied().or(self.any)
    }

    fn at_port(&self, port: (Protocol, u16), ranges: &PortRanges) -> Option<Decision> {
        let at_range = || ranges.of(port.1).and_then(|part| self.ranges.get(&(port.0, part)).copied());
        self.ports.get(&port).copied().or_else(at_range).or(self.any)
    }

    /// The least that has to be said so that this follows, where another one holds for what nothing is said of: everybody's; or, with
    /// nothing in it, that what is not mentioned is refused.
    fn beyond(&self, everybody: &Self, ranges: &PortRanges) -> Self {
        let refused = Some(Decision::Refuse);
        // Whether it begins with its own word for everything, or goes on from everybody's.
        let with = |own: bool| {
            let mut said = Self { any: self.any.filter(|_| own), ..Self::default() };
            let parts: BTreeSet<_> = self.ranges.keys().chain(everybody.ranges.keys()).copied().collect();
            for part in parts {
                let wanted = self.at_range(part);
                let follows = said.any.or_else(|| everybody.at_range(part)).or(refused);
                said.ranges.extend(wanted.filter(|_| wanted != follows).map(|wanted| (part, wanted)));
            }
            let ports: BTreeSet<_> = self.ports.keys().chain(everybody.ports.keys()).copied().collect();
            for port in ports {
                let wanted = self.at_port(port, ranges);
                let follows = said.at_port(port, ranges).or_else(|| everybody.at_port(port, ranges)).or(refused);
                said.ports.extend(wanted.filter(|_| wanted != follows).map(|wanted| (port, wanted)));
            }
            said
        };
        let own = with(true);
        if self.any != everybody.any.or(refused) {
            return own;
        }
        let other = with(false);
        if other.len() <= own.len() { other } else { own }
    }

    fn len(&self) -> usize {
        usize::from(self.any.is_some()) + self.ranges.len() + self.ports.len()
    }

    /// What has to be said of everybody.
    pub(super) fn of_everybody(&self, subject: Subject, elements: &mut Elements<'_>) {
        let Self { any, ranges, ports } = self.beyond(&Self::default(), elements.ranges);
        let mut say = |combination, decision| elements.decided.push(Decided { combination, decision });
        any.into_iter().for_each(|decision| say(Combination::Everything(subject), decision));
        for ((protocol, part), decision) in ranges {
            say(Combination::AnyPeerRange(subject, protocol, part), decision);
        }
        for ((protocol, port), decision) in ports {
            say(Combination::AnyPeer(subject, protocol, port), decision);
        }
    }

    /// What has to be said of a class beside that.
    pub(super) fn of_class(&self, (subject, class): (Subject, Class), everybody: &Self, elements: &mut Elements<'_>) {
        let Self { any, ranges, ports } = self.beyond(everybody, elements.ranges);
        let any = any.map(|decision| Decided { combination: Combination::AnyPort(subject, class), decision });
        elements.decided.extend(any);
        let ranges = ranges.into_iter().map(|((protocol, part), said)| (protocol, PortOrRange::Range(part), said));
        let ports = ports.into_iter().map(|((protocol, port), said)| (protocol, PortOrRange::Port(port), said));
        elements.list(subject, class, ranges.chain(ports).collect());
    }
}

impl TierRule {
    /// Whether it is about a port of a peer of this class; about every protocol and port, where none is given.
    pub(super) fn is_about(&self, key: Option<&ClassKey>, port: Option<(Protocol, u16)>) -> bool {
        self.ports.as_ref().is_none_or(|all| {
            let is = |port| all.iter().any(|ports| ports.have(key, port));
            port.is_some_and(is)
        })
    }
}
