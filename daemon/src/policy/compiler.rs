//! From the objects of the cluster to the compiled form. A compiler keeps the numbers that it has given: what has not changed
//! has the same elements the next time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::atoms::{Atom, PodAtoms};
use crate::policy::behind::Behind;
use crate::policy::compiled::{Compiled, Matrix};
use crate::policy::element::{BlockSegment, Class, Subject};
use crate::policy::elements::{Elements, Written};
use crate::policy::inputs::Inputs;
use crate::policy::ip_block::address;
use crate::policy::named_ports::NamedPort;
use crate::policy::network_policy::Direction;
use crate::policy::numbers::Numbers;
use crate::policy::pod::Pod;
use crate::policy::port_lists::PortLists;
use crate::policy::port_ranges::PortRanges;
use crate::policy::rules::ClassKey;
use crate::policy::segments::Segments;
use crate::policy::subjects::{SubjectKey, Subjects};
use crate::policy::too_large::{PORT_RANGES, TooLarge};

/// Compiles again and again.
#[derive(Debug, Default)]
pub struct Compiler {
    pub(super) atoms: Numbers<Atom>,
    pub(super) subjects: Numbers<SubjectKey>,
    pub(super) classes: Numbers<ClassKey>,
    pub(super) lists: PortLists,
    ranges: Numbers<Vec<(u16, u16)>>,
}

/// What the compiled form was made by: an address more is looked up in it, and compiled without all others.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// The subjects, whose rules are in the compiled form.
    pub(super) subjects: Subjects,
    pub(super) ranges: PortRanges,
    selectors: PodAtoms,
    segments: Segments,
}

impl Compiler {
    /// Compiles everything.
    ///
    /// # Errors
    /// When it is too large; the compiler goes on from what it had.
    pub fn compile(&mut self, inputs: &Inputs<'_>) -> Result<Compiled, TooLarge> {
        self.compile_in_parts(inputs).map(|(compiled, _)| compiled)
    }

    /// Compiles everything, and keeps what it was made by.
    ///
    /// # Errors
    /// When it is too large; the compiler goes on from what it had.
    pub(super) fn compile_in_parts(&mut self, inputs: &Inputs<'_>) -> Result<(Compiled, Parts), TooLarge> {
        self.atoms.begin();
        self.subjects.begin();
        self.classes.begin();
        self.lists.begin();
        self.ranges.begin();
        let (mut compiled, parts) = self.round(inputs)?;
        self.atoms.end();
        self.subjects.end();
        self.classes.end();
        self.ranges.end();
        compiled.listed = self.lists.end(compiled.ingress.listings.iter().chain(&compiled.egress.listings));
        Ok((compiled, parts))
    }

    fn round(&mut self, inputs: &Inputs<'_>) -> Result<(Compiled, Parts), TooLarge> {
        let local = local(inputs);
        let mut subjects = Subjects::new(inputs, &local, &mut self.atoms, &mut self.subjects);
        if subjects.ranges.len() > PORT_RANGES {
            return Err(TooLarge::PortRanges { count: subjects.ranges.len() });
        }
        let judges = std::mem::take(&mut subjects.judges);
        let ranges = PortRanges::new(&subjects.ranges, &mut self.ranges);
        let blocks = subjects.atoms.iter().filter_map(|(number, atom)| match atom {
            Atom::Block(spans) => Some((*number, &spans[..])),
            _ => None,
        });
        let segments = Segments::new(blocks, &inputs.judged_as);
        let atoms = subjects.atoms.iter().map(|(number, atom)| (*number, atom));
        let selectors = PodAtoms::new(atoms, inputs.namespaces.iter().copied());
        let mut parts = Parts { subjects, ranges, selectors, segments };
        let mut classes = BTreeMap::new();
        let peers = self.peers(inputs, local, &mut parts, &mut classes);
        let blocks = self.blocks(&parts.segments, &mut classes);
        let mut matrix = |direction: Direction| {
            let addresses = parts.subjects.addresses.of(direction);
            let mut elements = Elements::new(&parts.ranges, &mut self.lists);
            for subject in distinct(addresses) {
                if let Some(judge) = judges.get(&subject) {
                    judge.write(subject, &classes, &mut elements)?;
                }
            }
            let Written { allowed, decided, listings } = elements.written();
            let audited = parts.subjects.addresses.audited(direction).collect();
            let tiered = parts.subjects.addresses.tiered(direction).collect();
            Ok(Matrix { subjects: addresses.clone(), tiered, audited, allowed, decided, listings })
        };
        let (ingress, egress) = (matrix(Direction::Ingress)?, matrix(Direction::Egress)?);
        let ports = parts.ranges.segments.clone();
        let behind = Arc::new(Behind { judges, classes });
        let unknown = inputs.unknown.clone();
        Ok((Compiled { ingress, egress, peers, blocks, ports, listed: Vec::new(), unknown, behind }, parts))
    }

    /// The class of each pod's address that is in a selector or has a port that is named.
    fn peers(
        &mut self,
        inputs: &Inputs<'_>,
        local: BTreeMap<IpAddr, &Pod>,
        parts: &mut Parts,
        classes: &mut BTreeMap<Class, ClassKey>,
    ) -> BTreeMap<IpAddr, Class> {
        // Pods with the same labels and ports in the same namespace are looked at once.
        let mut known: HashMap<(usize, usize, usize), Option<ClassKey>> = HashMap::new();
        let mut peers = BTreeMap::new();
        for (address, pod) in owners(inputs, local) {
            let alike = (pod.namespace.place(), pod.labels.place(), pod.named_ports.place());
            let key = known.entry(alike).or_insert_with(|| parts.key(pod));
            if let Some(key) = parts.at(address, key.clone()) {
                peers.insert(address, self.class(key, classes));
            }
        }
        peers
    }

    fn blocks(&mut self, segments: &Segments, classes: &mut BTreeMap<Class, ClassKey>) -> Vec<BlockSegment> {
        let mut block = |segment: &crate::policy::segments::Segment| {
            let key = ClassKey { atoms: segment.blocks.clone(), named: Vec::new() };
            let span = segment.span;
            let [first, last] = [span.first, span.last].map(|number| address(span.version, number));
            BlockSegment { first, last, class: self.class(key, classes) }
        };
        segments.iter().map(&mut block).collect()
    }

    fn class(&mut self, key: ClassKey, classes: &mut BTreeMap<Class, ClassKey>) -> Class {
        let class = Class(self.classes.number(key.clone()));
        classes.entry(class).or_insert(key);
        class
    }
}

impl Parts {
    /// What the peers have in common that have an address of this pod, but for the blocks that the address is in; nothing where no
    /// selector and no named port means the pod.
    pub(super) fn key(&mut self, pod: &Pod) -> Option<ClassKey> {
        let named = &self.subjects.named;
        let known = |port: &&NamedPort| named.contains(&(port.name.clone(), port.protocol));
        let named = pod.named_ports.iter().filter(known).cloned().collect();
        let key = ClassKey { atoms: self.selectors.of(&pod.namespace, &pod.labels), named };
        (!key.is_empty()).then_some(key)
    }

    /// The same with the blocks that the address is in.
    pub(super) fn at(&self, address: IpAddr, key: Option<ClassKey>) -> Option<ClassKey> {
        let mut key = key?;
        key.atoms.extend(self.segments.at(address));
        key.atoms.sort_unstable();
        Some(key)
    }
}

/// Each subject of some addresses once.
pub(super) fn distinct(addresses: &BTreeMap<IpAddr, Subject>) -> BTreeSet<Subject> {
    addresses.values().copied().collect()
}

/// Whether policies can mean a pod as a peer: pods of the node's own network have no address of their own, and finished ones have
/// none any more.
pub(super) fn is_peer(pod: &Pod) -> bool {
    !pod.host_network && !pod.finished
}

/// The pods that are attached here, by the addresses that they hold.
pub(super) fn local<'a>(inputs: &Inputs<'a>) -> BTreeMap<IpAddr, &'a Pod> {
    let mut local = BTreeMap::new();
    for held in inputs.local.iter().filter(|held| !held.pod.host_network) {
        held.addresses.iter().for_each(|address| keep_newer(&mut local, *address, held.pod));
    }
    local
}

/// The pod that an address belongs to, as a peer. A pod of this node has those that it holds, and no others.
fn owners<'a>(inputs: &Inputs<'a>, local: BTreeMap<IpAddr, &'a Pod>) -> BTreeMap<IpAddr, &'a Pod> {
    let mut owners = BTreeMap::new();
    for pod in inputs.pods.iter().copied().filter(|pod| is_elsewhere(inputs.node, pod)) {
        for address in pod.addresses.iter().filter(|address| !local.contains_key(address)) {
            keep_newer(&mut owners, *address, pod);
        }
    }
    owners.extend(local.into_iter().filter(|(_, pod)| is_peer(pod)));
    owners
}

/// Whether a pod is a peer by the addresses that its own node has reported.
pub(super) fn is_elsewhere(node: &str, pod: &Pod) -> bool {
    is_peer(pod) && (node.is_empty() || *pod.node != *node)
}

fn keep_newer<'a>(pods: &mut BTreeMap<IpAddr, &'a Pod>, address: IpAddr, pod: &'a Pod) {
    let held = pods.entry(address).or_insert(pod);
    if is_newer(pod, held) {
        *held = pod;
    }
}

/// Where two pods claim an address, the one that was created last has it.
pub(super) fn is_newer(pod: &Pod, other: &Pod) -> bool {
    fn order(pod: &Pod) -> (u64, &str, &str, &str) {
        (pod.created, &pod.uid, &pod.name, &pod.namespace)
    }
    order(other) < order(pod)
}
