//! The rules for one subject, with named ports resolved as far as they are its own, and what they allow each class.

use std::collections::{BTreeSet, HashMap};

use crate::policy::element::{Class, Combination, Decision, Listed, PortOrRange, PortRange, Subject};
use crate::policy::elements::Elements;
use crate::policy::named_ports::NamedPort;
use crate::policy::network_policy::PolicyName;
use crate::policy::port::{Ports, Protocol, Which};
use crate::policy::port_ranges::PortRanges;

/// What the peers of one class have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClassKey {
    /// The selectors and blocks that they are in, in order.
    pub(super) atoms: Vec<u32>,
    /// Their named ports, as far as egress rules name them.
    pub(super) named: Vec<NamedPort>,
}

/// The rules for one subject in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// The policies that isolate it, in order.
    pub(super) policies: Vec<PolicyName>,
    rules: Vec<SubjectRule>,
    /// Those that allow peers by a selector or block.
    by_atom: HashMap<u32, Vec<usize>>,
    /// Those that allow everybody.
    for_all: Vec<usize>,
}

/// What a subject allows everybody, so that it need not be repeated for a class.
#[derive(Debug, Default)]
pub(super) struct Everybody<'a> {
    everything: bool,
    numbers: BTreeSet<(Protocol, u16)>,
    parts: BTreeSet<(Protocol, PortRange)>,
    /// A named port that everybody may be asked for is another number for each class.
    named: Vec<&'a Ports>,
}

/// A rule for a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubjectRule {
    /// Its policy, by its place.
    pub(super) policy: usize,
    /// Its place in the policy.
    pub(super) rule: usize,
    /// Ports; those of ingress rules are numbers. `None`: all, of every protocol.
    pub(super) ports: Option<Vec<Ports>>,
}

impl Rules {
    /// Nothing is allowed yet to pods that these policies isolate.
    pub(super) fn new(policies: Vec<PolicyName>) -> Self {
        Self { policies, ..Self::default() }
    }

    /// Adds a rule that allows the peers of these selectors and blocks, or everybody.
    pub(super) fn add(&mut self, peers: Option<&[u32]>, rule: SubjectRule) {
        let place = self.rules.len();
        match peers {
            None => self.for_all.push(place),
            Some(atoms) => atoms.iter().for_each(|atom| self.by_atom.entry(*atom).or_default().push(place)),
        }
        self.rules.push(rule);
    }

    /// The rules that allow a class something that they do not allow everybody.
    fn of_class(&self, class: &ClassKey) -> impl Iterator<Item = &SubjectRule> {
        class
            .atoms
            .iter()
            .filter_map(|atom| self.by_atom.get(atom))
            .flatten()
            .filter_map(|place| self.rules.get(*place))
    }

    /// The rules that allow everybody something.
    fn of_all(&self) -> impl Iterator<Item = &SubjectRule> {
        self.for_all.iter().filter_map(|place| self.rules.get(*place))
    }

    /// Adds what everybody is allowed, each once.
    pub(super) fn allow_everybody(&self, subject: Subject, elements: &mut Elements<'_>) {
        let Everybody { everything, numbers, parts, named: _ } = self.everybody(elements.ranges);
        if everything {
            return elements.allowed.push(Combination::Everything(subject));
        }
        let numbers = numbers.into_iter().map(|(protocol, port)| Combination::AnyPeer(subject, protocol, port));
        let parts = parts.into_iter().map(|(protocol, part)| Combination::AnyPeerRange(subject, protocol, part));
        elements.allowed.extend(numbers.chain(parts));
    }

    /// What everybody is allowed.
    pub(super) fn everybody(&self, ranges: &PortRanges) -> Everybody<'_> {
        let mut everybody =
            Everybody { everything: self.of_all().any(|rule| rule.ports.is_none()), ..Everybody::default() };
        for ports in self.of_all().flat_map(|rule| rule.ports.iter().flatten()) {
            let Ports { protocol, which } = ports;
            match which {
                Which::Number(port) => _ = everybody.numbers.insert((*protocol, *port)),
                Which::Range(first, last) => {
                    everybody.parts.extend(ranges.parts((*first, *last)).map(|part| (*protocol, part)));
                }
                Which::Named(_) => everybody.named.push(ports),
            }
        }
        everybody
    }

    /// Adds what one class is allowed beside what everybody is.
    pub(super) fn allow_class(
        &self,
        subject: Subject,
        (class, key): (Class, &ClassKey),
        everybody: &Everybody<'_>,
        elements: &mut Elements<'_>,
    ) {
        if everybody.everything {
            return;
        }
        if self.of_class(key).any(|rule| rule.ports.is_none()) {
            return elements.allowed.push(Combination::AnyPort(subject, class));
        }
        let mut listed: Vec<Listed> = Vec::new();
        let own = self.of_class(key).flat_map(|rule| rule.ports.iter().flatten());
        for Ports { protocol, which } in own.chain(everybody.named.iter().copied()) {
            let mut number = |port: u16| {
                if !everybody.numbers.contains(&(*protocol, port)) {
                    listed.push((*protocol, PortOrRange::Port(port), Decision::Allow));
                }
            };
            match which {
                Which::Number(port) => number(*port),
                Which::Named(name) => key.numbers(name, *protocol).for_each(number),
                Which::Range(first, last) => {
                    let own = elements.ranges.parts((*first, *last));
                    let own = own.filter(|part| !everybody.parts.contains(&(*protocol, *part)));
                    listed.extend(own.map(|part| (*protocol, PortOrRange::Range(part), Decision::Allow)));
                }
            }
        }
        elements.list(subject, class, listed);
    }

    /// The first rule that allows a peer this port, in the order of the policies.
    pub(super) fn first(&self, class: Option<&ClassKey>, port: Option<(Protocol, u16)>) -> Option<&SubjectRule> {
        let allows = |rule: &&SubjectRule| {
            let Some(ports) = &rule.ports else { return true };
            port.is_some_and(|port| ports.iter().any(|ports| ports.have(class, port)))
        };
        self.of_peer(class).filter(allows).min_by_key(|rule| (rule.policy, rule.rule))
    }

    /// The rules that allow a peer something. One may be there twice.
    pub(super) fn of_peer(&self, class: Option<&ClassKey>) -> impl Iterator<Item = &SubjectRule> {
        self.of_all().chain(class.into_iter().flat_map(|class| self.of_class(class)))
    }
}

impl Ports {
    /// Whether a port of a peer of this class is one of them.
    pub(super) fn have(&self, class: Option<&ClassKey>, (protocol, port): (Protocol, u16)) -> bool {
        self.protocol == protocol
            && match &self.which {
                Which::Number(number) => *number == port,
                Which::Range(first, last) => (*first..=*last).contains(&port),
                Which::Named(name) => {
                    class.is_some_and(|class| class.numbers(name, protocol).any(|number| number == port))
                }
            }
    }
}

impl ClassKey {
    /// Whether it tells peers from all others.
    pub(super) fn is_empty(&self) -> bool {
        self.atoms.is_empty() && self.named.is_empty()
    }

    /// Whether peers of this class are in all selectors and blocks that those of another are in, and have their named ports.
    pub(super) fn has(&self, other: &Self) -> bool {
        other.atoms.iter().all(|atom| self.atoms.binary_search(atom).is_ok())
            && other.named.iter().all(|port| self.named.contains(port))
    }

    /// The numbers that a name stands for.
    pub(super) fn numbers<'a>(&'a self, name: &'a str, protocol: Protocol) -> impl Iterator<Item = u16> + 'a {
        let named = self.named.iter().filter(move |port| *port.name == *name && port.protocol == protocol);
        named.map(|port| port.number)
    }
}
