//! The rules for one subject, with named ports resolved as far as they are its own, and what they allow each class.

use std::collections::{BTreeSet, HashMap};

use crate::policy::element::{Allowed, Class, Subject};
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
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The policies that isolate it, in order.
    pub(super) policies: Vec<PolicyName>,
    rules: Vec<SubjectRule>,
    /// Those that allow peers by a selector or block.
    by_atom: HashMap<u32, Vec<usize>>,
    /// Those that allow everybody.
    for_all: Vec<usize>,
}

/// A rule for a subject.
#[derive(Debug)]
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

    /// Adds what is allowed, each once; stops once there are more than so many.
    pub(super) fn allow(
        &self,
        subject: Subject,
        classes: &[(Class, ClassKey)],
        ranges: &PortRanges,
        most: usize,
        allowed: &mut Vec<Allowed>,
    ) {
        if self.of_all().any(|rule| rule.ports.is_none()) {
            return allowed.push(Allowed::Everything(subject));
        }
        let ports = || self.of_all().flat_map(|rule| rule.ports.iter().flatten());
        let (mut numbers, mut parts) = (BTreeSet::new(), BTreeSet::new());
        for Ports { protocol, which } in ports() {
            match which {
                Which::Number(port) => _ = numbers.insert((*protocol, *port)),
                Which::Range(first, last) => parts.extend(ranges.parts((*first, *last)).map(|part| (*protocol, part))),
                Which::Named(_) => {}
            }
        }
        allowed.extend(numbers.iter().map(|(protocol, port)| Allowed::AnyPeer(subject, *protocol, *port)));
        allowed.extend(parts.iter().map(|(protocol, part)| Allowed::AnyPeerRange(subject, *protocol, *part)));
        // A named port that everybody may be asked for is another number for each class.
        let named: Vec<_> = ports().filter(|ports| matches!(ports.which, Which::Named(_))).collect();
        for (class, key) in classes {
            if allowed.len() > most {
                return;
            }
            let before = allowed.len();
            if self.of_class(key).any(|rule| rule.ports.is_none()) {
                allowed.push(Allowed::AnyPort(subject, *class));
                continue;
            }
            let own = self.of_class(key).flat_map(|rule| rule.ports.iter().flatten());
            for Ports { protocol, which } in own.chain(named.iter().copied()) {
                let mut number = |port: u16| {
                    if !numbers.contains(&(*protocol, port)) {
                        allowed.push(Allowed::Port(subject, *class, *protocol, port));
                    }
                };
                match which {
                    Which::Number(port) => number(*port),
                    Which::Named(name) => key.numbers(name, *protocol).for_each(number),
                    Which::Range(first, last) => {
                        let own = ranges.parts((*first, *last)).filter(|part| !parts.contains(&(*protocol, *part)));
                        allowed.extend(own.map(|part| Allowed::Range(subject, *class, *protocol, part)));
                    }
                }
            }
            // Rules of several policies allow the same.
            let mut own = allowed.split_off(before);
            own.sort_unstable();
            own.dedup();
            allowed.append(&mut own);
        }
    }

    /// The first rule that allows a peer this port, in the order of the policies.
    pub(super) fn first(&self, class: Option<&ClassKey>, port: Option<(Protocol, u16)>) -> Option<&SubjectRule> {
        let allows = |rule: &&SubjectRule| {
            let Some(ports) = &rule.ports else { return true };
            port.is_some_and(|(protocol, port)| {
                ports.iter().any(|ports| {
                    ports.protocol == protocol
                        && match &ports.which {
                            Which::Number(number) => *number == port,
                            Which::Range(first, last) => (*first..=*last).contains(&port),
                            Which::Named(name) => {
                                class.is_some_and(|class| class.numbers(name, protocol).any(|number| number == port))
                            }
                        }
                })
            })
        };
        let of_class = class.into_iter().flat_map(|class| self.of_class(class));
        self.of_all().chain(of_class).filter(allows).min_by_key(|rule| (rule.policy, rule.rule))
    }
}

impl ClassKey {
    /// Whether it tells peers from all others.
    pub(super) fn is_empty(&self) -> bool {
        self.atoms.is_empty() && self.named.is_empty()
    }

    fn numbers<'a>(&'a self, name: &'a str, protocol: Protocol) -> impl Iterator<Item = u16> + 'a {
        let named = self.named.iter().filter(move |port| *port.name == *name && port.protocol == protocol);
        named.map(|port| port.number)
    }
}
