//! Which policies isolate the pods of this node, and what of their rules has to be known of peers: their selectors, blocks,
//! named ports and port ranges.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use crate::policy::addresses::{Addresses, Alike};
use crate::policy::atoms::Atom;
use crate::policy::cluster_policy::ClusterPolicy;
use crate::policy::element::Subject;
use crate::policy::inputs::Inputs;
use crate::policy::judge::Judge;
use crate::policy::labels::Labels;
use crate::policy::named_ports::NamedPort;
use crate::policy::network_policy::{Direction, NetworkPolicy, PolicyName};
use crate::policy::numbers::Numbers;
use crate::policy::pod::Pod;
use crate::policy::port::{Ports, Protocol, Which};
use crate::policy::rule::{Peer, Rule};
use crate::policy::rules::{ClassKey, Rules, SubjectRule};
use crate::policy::text::Text;
use crate::policy::tier::{Action, Tier};
use crate::policy::tiers::{Policy, Selecting, TierRule, Tiers};

/// What the pods of one subject have in common: the policies, those of the cluster, and the numbers of the ports that these name.
pub(super) type SubjectKey = (Direction, Vec<PolicyName>, Vec<Text>, Vec<NamedPort>);

/// The subjects of this node.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// The addresses that are judged, and what is said of pods that are alike.
    pub(super) addresses: Addresses,
    pub(super) alike: Alike,
    pub(super) judges: BTreeMap<Subject, Judge>,
    /// What rules allow peers by.
    pub(super) atoms: BTreeMap<u32, Atom>,
    /// The names of ports that egress rules have, and peers may declare.
    pub(super) named: BTreeSet<(Text, Protocol)>,
    /// The port ranges of rules.
    pub(super) ranges: BTreeSet<(u16, u16)>,
    /// Those of the atoms whose peers may be refused because they are in them; whether named ports may have them refused.
    refusing: BTreeSet<u32>,
    refuse_by_name: bool,
}

/// For each rule of a policy in one direction the atoms of its peers; `None`: everybody.
type Peers = Rc<Vec<Option<Vec<u32>>>>;

/// Makes the subjects, with the numbers that were given before.
struct Maker<'a> {
    made: Subjects,
    atoms: &'a mut Numbers<Atom>,
    numbers: &'a mut Numbers<SubjectKey>,
    /// By where the policy is.
    peers: HashMap<(usize, Direction), Peers>,
}

impl Subjects {
    /// Of the pods that are attached here.
    pub(super) fn new(
        inputs: &Inputs<'_>,
        local: &BTreeMap<IpAddr, &Pod>,
        atoms: &mut Numbers<Atom>,
        numbers: &mut Numbers<SubjectKey>,
    ) -> Self {
        let mut by_namespace: HashMap<&Text, Vec<&NetworkPolicy>> = HashMap::new();
        for policy in &inputs.policies {
            by_namespace.entry(&policy.name.namespace).or_default().push(policy);
        }
        let order = |policy: &&NetworkPolicy| (policy.name.clone(), policy.uid.clone());
        for policies in by_namespace.values_mut() {
            policies.sort_by_cached_key(order);
            policies.dedup_by(|later, first| later.name == first.name);
        }
        let namespaces = inputs.namespaces.iter().map(|namespace| (&namespace.name, &namespace.labels));
        let namespaces: HashMap<&Text, &Labels> = namespaces.collect();
        let mut clusters = inputs.cluster_policies.clone();
        clusters.sort_by(|one, other| (&one.name, &one.uid).cmp(&(&other.name, &other.uid)));
        clusters.dedup_by(|later, first| later.name == first.name);
        clusters.sort_by(|one, other| one.order().cmp(&other.order()));
        let mut maker = Maker { made: Self::default(), atoms, numbers, peers: HashMap::new() };
        for (address, pod) in local {
            if maker.made.alike.say(&mut maker.made.addresses, *address, pod) {
                continue;
            }
            let policies = by_namespace.get(&pod.namespace).map_or(&[][..], |policies| policies);
            let selecting: Vec<_> =
                policies.iter().copied().filter(|policy| policy.selector.matches(&pod.labels)).collect();
            let labels = namespaces.get(&pod.namespace).copied();
            let clusters: Vec<_> = clusters.iter().copied().filter(|policy| policy.selects(pod, labels)).collect();
            for direction in Direction::BOTH {
                let judging = selecting.iter().filter_map(|policy| Some((*policy, policy.rules(direction)?)));
                let clusters: Vec<_> =
                    clusters.iter().copied().filter(|policy| !policy.rules(direction).is_empty()).collect();
                let judging: Vec<_> = judging.collect();
                match clusters.is_empty() {
                    true => maker.isolated((direction, *address), pod, judging),
                    false => maker.tiered((direction, *address), pod, &clusters, &judging),
                }
            }
            maker.made.alike.keep(&maker.made.addresses, *address, pod);
        }
        maker.made
    }

    /// Whether others tell peers and ports from each other by the same. (A number is given to another selector or block only
    /// after a whole compile.)
    pub(super) fn know_peers_as(&self, others: &Self) -> bool {
        self.atoms.keys().eq(others.atoms.keys()) && (&self.named, &self.ranges) == (&others.named, &others.ranges)
    }

    /// Whether peers of a class may be refused something because of what another class does not have.
    pub(super) fn refuse_more(&self, before: Option<&ClassKey>, after: &ClassKey) -> bool {
        let is_new = |atom: &&u32| before.is_none_or(|before| before.atoms.binary_search(atom).is_err());
        let has_new_port = || after.named.iter().any(|port| !before.is_some_and(|before| before.named.contains(port)));
        after.atoms.iter().filter(is_new).any(|atom| self.refusing.contains(atom))
            || (self.refuse_by_name && has_new_port())
    }
}

impl Maker<'_> {
    /// An address that NetworkPolicies alone may isolate.
    fn isolated(&mut self, at: (Direction, IpAddr), pod: &Pod, judging: Vec<(&NetworkPolicy, &[Rule])>) {
        let direction = at.0;
        let (audits, mut isolating): (Vec<_>, Vec<_>) = judging.into_iter().partition(|(policy, _)| policy.audit);
        // To a pod that is isolated anyway a further policy could only allow more.
        if isolating.is_empty() && !audits.is_empty() {
            self.made.addresses.audited.insert(at);
            isolating = audits;
        }
        if isolating.is_empty() {
            return;
        }
        let names: Vec<_> = isolating.iter().map(|(policy, _)| policy.name.clone()).collect();
        let ports = own_ports(direction, isolating.iter().flat_map(|(_, rules)| *rules), pod);
        let subject = self.subject(at, (direction, names.clone(), Vec::new(), ports.clone()));
        if self.made.judges.contains_key(&subject) {
            return;
        }
        let mut rules = Rules::new(names);
        for (place, (policy, written)) in isolating.iter().enumerate() {
            let peers = self.peers_of(policy, direction, written);
            for (rule, (written, peers)) in written.iter().zip(peers.iter()).enumerate() {
                let ports = self.made.resolve(written, direction, &ports);
                rules.add(peers.as_deref(), SubjectRule { policy: place, rule, ports });
            }
        }
        self.made.judges.insert(subject, Judge::Rules(rules));
    }

    /// An address that policies of the cluster select, whatever NetworkPolicies do.
    fn tiered(
        &mut self,
        at: (Direction, IpAddr),
        pod: &Pod,
        clusters: &[&ClusterPolicy],
        judging: &[(&NetworkPolicy, &[Rule])],
    ) {
        let direction = at.0;
        self.made.addresses.tiered.insert(at);
        if clusters.iter().any(|policy| policy.audit) || judging.iter().any(|(policy, _)| policy.audit) {
            self.made.addresses.audited.insert(at);
        }
        let names = judging.iter().map(|(policy, _)| policy.name.clone()).collect();
        let of_clusters = clusters.iter().flat_map(|policy| policy.rules(direction)).map(|rule| &rule.matches);
        let ports = own_ports(direction, judging.iter().flat_map(|(_, rules)| *rules).chain(of_clusters), pod);
        let cluster_names = clusters.iter().map(|policy| policy.name.clone()).collect();
        let subject = self.subject(at, (direction, names, cluster_names, ports.clone()));
        if self.made.judges.contains_key(&subject) {
            return;
        }
        let mut tiers = Tiers::default();
        for tier in [Tier::Admin, Tier::Network, Tier::Baseline] {
            for policy in clusters.iter().filter(|policy| policy.tier == tier) {
                self.add_cluster(&mut tiers, policy, direction, &ports);
            }
            if tier == Tier::Network {
                for (policy, written) in judging {
                    self.add_network(&mut tiers, policy, written, direction, &ports);
                }
            }
        }
        self.made.judges.insert(subject, Judge::Tiers(tiers));
    }

    fn add_cluster(&mut self, tiers: &mut Tiers, policy: &ClusterPolicy, direction: Direction, own: &[NamedPort]) {
        let named = Policy::Cluster { name: policy.name.clone(), tier: policy.tier, priority: policy.priority };
        tiers.policies.push(Selecting { policy: named, audit: policy.audit });
        let place = tiers.policies.len() - 1;
        let rules: Vec<_> = policy.rules(direction).iter().map(|rule| &rule.matches).collect();
        let peers = self.peers((std::ptr::from_ref(policy).addr(), direction), None, &rules);
        for (rule, (written, peers)) in policy.rules(direction).iter().zip(peers.iter()).enumerate() {
            let ports = self.made.resolve(&written.matches, direction, own);
            if written.action != Action::Accept {
                self.made.refusing.extend(peers.iter().flatten());
                let mut ports = ports.iter().flatten();
                self.made.refuse_by_name |= ports.any(|ports| matches!(ports.which, Which::Named(_)));
            }
            let (name, action) = (written.name.clone(), written.action);
            tiers.add(peers.as_deref(), TierRule { policy: place, rule, name, action, ports });
        }
    }

    fn add_network(
        &mut self,
        tiers: &mut Tiers,
        policy: &NetworkPolicy,
        written: &[Rule],
        direction: Direction,
        own: &[NamedPort],
    ) {
        tiers.policies.push(Selecting { policy: Policy::Network(policy.name.clone()), audit: policy.audit });
        let place = tiers.policies.len() - 1;
        let peers = self.peers_of(policy, direction, written);
        for (rule, (written, peers)) in written.iter().zip(peers.iter()).enumerate() {
            let ports = self.made.resolve(written, direction, own);
            let (name, action) = (Text::from(""), Action::Accept);
            tiers.add(peers.as_deref(), TierRule { policy: place, rule, name, action, ports });
        }
    }

    /// The number of an address's subject.
    fn subject(&mut self, (direction, address): (Direction, IpAddr), key: SubjectKey) -> Subject {
        let subject = Subject(self.numbers.number(key));
        self.made.addresses.set(direction, address, subject);
        subject
    }

    fn peers_of(&mut self, policy: &NetworkPolicy, direction: Direction, rules: &[Rule]) -> Peers {
        let key = (std::ptr::from_ref(policy).addr(), direction);
        self.peers(key, Some(&policy.name.namespace), &rules.iter().collect::<Vec<_>>())
    }

    /// The peers of rules; where no namespaces are written they are in this one.
    fn peers(&mut self, key: (usize, Direction), own: Option<&Text>, rules: &[&Rule]) -> Peers {
        if let Some(known) = self.peers.get(&key) {
            return known.clone();
        }
        let mut number = |peer: &Peer| {
            let atom = match (peer, own) {
                (Peer::Pods { namespaces: None, pods }, Some(own)) => Atom::Own(own.clone(), pods.clone()),
                (Peer::Pods { namespaces, pods }, _) => {
                    Atom::Selected(namespaces.clone().unwrap_or_default(), pods.clone())
                }
                (Peer::Block(block), _) => Atom::Block(block.spans()),
            };
            let number = self.atoms.number(atom.clone());
            self.made.atoms.insert(number, atom);
            number
        };
        let rules = rules.iter().map(|rule| rule.peers.as_ref().map(|peers| peers.iter().map(&mut number).collect()));
        let peers: Peers = Rc::new(rules.collect());
        self.peers.insert(key, peers.clone());
        peers
    }
}

impl Subjects {
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

/// The ports of a pod that rules name, where these are about what it receives.
fn own_ports<'a>(direction: Direction, rules: impl Iterator<Item = &'a Rule>, pod: &Pod) -> Vec<NamedPort> {
    if direction == Direction::Egress {
        return Vec::new();
    }
    let ports = rules.flat_map(|rule| rule.ports.iter().flatten());
    let names: BTreeSet<_> = ports
        .filter_map(|ports| match &ports.which {
            Which::Named(name) => Some((name, ports.protocol)),
            _ => None,
        })
        .collect();
    pod.named_ports.iter().filter(|port| names.contains(&(&port.name, port.protocol))).cloned().collect()
}
