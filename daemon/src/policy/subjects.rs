//! Which policies isolate the pods of this node, and what of their rules has to be known of peers: their selectors, blocks,
//! named ports and port ranges.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use crate::policy::atoms::Atom;
use crate::policy::element::Subject;
use crate::policy::inputs::Inputs;
use crate::policy::named_ports::NamedPort;
use crate::policy::network_policy::{Direction, NetworkPolicy, PolicyName};
use crate::policy::numbers::Numbers;
use crate::policy::pod::Pod;
use crate::policy::port::{Ports, Protocol, Which};
use crate::policy::rule::{Peer, Rule};
use crate::policy::rules::{Rules, SubjectRule};
use crate::policy::text::Text;

/// What the pods of one subject have in common: the policies, and the numbers of the ports that these name.
pub(super) type SubjectKey = (Direction, Vec<PolicyName>, Vec<NamedPort>);

/// The subjects of this node.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// The subject of each isolated address, of ingress and of egress.
    pub(super) ingress: BTreeMap<IpAddr, Subject>,
    pub(super) egress: BTreeMap<IpAddr, Subject>,
    pub(super) rules: BTreeMap<Subject, Rules>,
    /// What rules allow peers by.
    pub(super) atoms: BTreeMap<u32, Atom>,
    /// The names of ports that egress rules have, and peers may declare.
    pub(super) named: BTreeSet<(Text, Protocol)>,
    /// The port ranges of rules.
    pub(super) ranges: BTreeSet<(u16, u16)>,
}

/// For each rule of a policy in one direction the atoms of its peers; `None`: everybody.
type Peers = Rc<Vec<Option<Vec<u32>>>>;

impl Subjects {
    /// Of the pods that are attached here.
    pub(super) fn new(
        inputs: &Inputs<'_>,
        local: &BTreeMap<IpAddr, &Pod>,
        atoms: &mut Numbers<Atom>,
        subjects: &mut Numbers<SubjectKey>,
    ) -> Self {
        let mut by_namespace: HashMap<&Text, Vec<&NetworkPolicy>> = HashMap::new();
        for policy in inputs.policies.iter().filter(|policy| !policy.audit) {
            by_namespace.entry(&policy.name.namespace).or_default().push(policy);
        }
        let order = |policy: &&NetworkPolicy| (policy.name.clone(), policy.uid.clone());
        for policies in by_namespace.values_mut() {
            policies.sort_by_cached_key(order);
            policies.dedup_by(|later, first| later.name == first.name);
        }
        let mut made = Self::default();
        let mut peers: HashMap<(*const NetworkPolicy, Direction), Peers> = HashMap::new();
        for (address, pod) in local {
            let policies = by_namespace.get(&pod.namespace).map_or(&[][..], |policies| policies);
            let selecting: Vec<_> =
                policies.iter().copied().filter(|policy| policy.selector.matches(&pod.labels)).collect();
            for direction in Direction::BOTH {
                let isolating: Vec<_> =
                    selecting.iter().filter_map(|policy| Some((*policy, policy.rules(direction)?))).collect();
                if isolating.is_empty() {
                    continue;
                }
                let names: Vec<_> = isolating.iter().map(|(policy, _)| policy.name.clone()).collect();
                let ports = match direction {
                    Direction::Ingress => named(isolating.iter().flat_map(|(_, rules)| *rules), pod),
                    Direction::Egress => Vec::new(),
                };
                let subject = Subject(subjects.number((direction, names.clone(), ports.clone())));
                let map = match direction {
                    Direction::Ingress => &mut made.ingress,
                    Direction::Egress => &mut made.egress,
                };
                map.insert(*address, subject);
                if made.rules.contains_key(&subject) {
                    continue;
                }
                let mut of_subject = Rules::new(names);
                for (place, (policy, rules)) in isolating.iter().enumerate() {
                    let key = (std::ptr::from_ref(*policy), direction);
                    let peers = peers.entry(key).or_insert_with(|| made.peers(policy, rules, atoms)).clone();
                    for (rule, (written, peers)) in rules.iter().zip(peers.iter()).enumerate() {
                        let ports = made.resolve(written, direction, &ports);
                        of_subject.add(peers.as_deref(), SubjectRule { policy: place, rule, ports });
                    }
                }
                made.rules.insert(subject, of_subject);
            }
        }
        made
    }

    fn peers(&mut self, policy: &NetworkPolicy, rules: &[Rule], numbers: &mut Numbers<Atom>) -> Peers {
        let mut number = |peer: &Peer| {
            let atom = match peer {
                Peer::Pods { namespaces: None, pods } => Atom::Own(policy.name.namespace.clone(), pods.clone()),
                Peer::Pods { namespaces: Some(namespaces), pods } => Atom::Selected(namespaces.clone(), pods.clone()),
                Peer::Block(block) => Atom::Block(block.spans()),
            };
            let number = numbers.number(atom.clone());
            self.atoms.insert(number, atom);
            number
        };
        let rules = rules.iter().map(|rule| rule.peers.as_ref().map(|peers| peers.iter().map(&mut number).collect()));
        Rc::new(rules.collect())
    }

    /// The ports of a rule: where they are the subject's own, names are replaced by the numbers that they stand for.
    fn resolve(&mut self, rule: &Rule, direction: Direction, own: &[NamedPort]) -> Option<Vec<Ports>> {
        let mut resolved = Vec::new();
        for ports in rule.ports.as_ref()? {
            match (&ports.which, direction) {
                (Which::Named(name), Direction::Ingress) => {
                    let own = own.iter().filter(|port| port.name == *name && port.protocol == ports.protocol);
                    resolved.extend(own.map(|port| Ports { which: Which::Number(port.number), ..ports.clone() }));
                    continue;
                }
                (Which::Named(name), Direction::Egress) => _ = self.named.insert((name.clone(), ports.protocol)),
                (Which::Range(first, last), _) => _ = self.ranges.insert((*first, *last)),
                (Which::Number(_), _) => {}
            }
            resolved.push(ports.clone());
        }
        // None that has a number is no port, and not all of them.
        Some(resolved)
    }
}

/// The ports of a pod that rules name.
fn named<'a>(rules: impl Iterator<Item = &'a Rule>, pod: &Pod) -> Vec<NamedPort> {
    let ports = rules.flat_map(|rule| rule.ports.iter().flatten());
    let names: BTreeSet<_> = ports
        .filter_map(|ports| match &ports.which {
            Which::Named(name) => Some((name, ports.protocol)),
            _ => None,
        })
        .collect();
    pod.named_ports.iter().filter(|port| names.contains(&(&port.name, port.protocol))).cloned().collect()
}
