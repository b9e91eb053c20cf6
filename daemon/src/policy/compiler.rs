//! From the objects of the cluster to the compiled form. A compiler keeps the numbers that it has given: what has not changed
//! has the same elements the next time.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::policy::atoms::{Atom, PodAtoms};
use crate::policy::behind::Behind;
use crate::policy::compiled::{Compiled, Matrix};
use crate::policy::element::{BlockSegment, Class, Subject};
use crate::policy::inputs::Inputs;
use crate::policy::ip_block::address;
use crate::policy::named_ports::NamedPort;
use crate::policy::numbers::Numbers;
use crate::policy::pod::Pod;
use crate::policy::port_ranges::PortRanges;
use crate::policy::rules::ClassKey;
use crate::policy::segments::Segments;
use crate::policy::subjects::{SubjectKey, Subjects};

/// The most elements of one direction: some 115 bytes of the kernel's memory each.
const ELEMENTS: usize = 1_000_000;

/// The most port ranges of the rules that are in force on one node: each may be cut by all others.
const PORT_RANGES: usize = 1024;

/// The policies cannot be compiled: they are too many, or of too many different kinds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TooLarge {
    /// More elements than the kernel is given.
    #[error(
        "the policies of this node's pods allow {count} combinations of pod, peers and ports or more, at most {ELEMENTS} \
         can be in force; let rules share selectors and ports"
    )]
    Elements {
        /// So many have been counted.
        count: usize,
    },
    /// More port ranges.
    #[error(
        "the policies of this node's pods have {count} different port ranges, at most {PORT_RANGES} can be in force; let \
         rules share ranges"
    )]
    PortRanges {
        /// So many.
        count: usize,
    },
}

/// Compiles again and again.
#[derive(Debug, Default)]
pub struct Compiler {
    atoms: Numbers<Atom>,
    subjects: Numbers<SubjectKey>,
    classes: Numbers<ClassKey>,
    ranges: Numbers<Vec<(u16, u16)>>,
}

impl Compiler {
    /// Compiles everything.
    ///
    /// # Errors
    /// When it is too large; the compiler goes on from what it had.
    pub fn compile(&mut self, inputs: &Inputs<'_>) -> Result<Compiled, TooLarge> {
        self.atoms.begin();
        self.subjects.begin();
        self.classes.begin();
        self.ranges.begin();
        let compiled = self.round(inputs)?;
        self.atoms.end();
        self.subjects.end();
        self.classes.end();
        self.ranges.end();
        Ok(compiled)
    }

    fn round(&mut self, inputs: &Inputs<'_>) -> Result<Compiled, TooLarge> {
        let local = local(inputs);
        let subjects = Subjects::new(inputs, &local, &mut self.atoms, &mut self.subjects);
        if subjects.ranges.len() > PORT_RANGES {
            return Err(TooLarge::PortRanges { count: subjects.ranges.len() });
        }
        let ranges = PortRanges::new(&subjects.ranges, &mut self.ranges);
        let blocks = subjects.atoms.iter().filter_map(|(number, atom)| match atom {
            Atom::Block(spans) => Some((*number, &spans[..])),
            _ => None,
        });
        let segments = Segments::new(blocks, &inputs.judged_as);
        let mut classes = BTreeMap::new();
        let peers = self.peers(inputs, local, &subjects, &segments, &mut classes);
        let blocks = self.blocks(&segments, &mut classes);
        let listed: Vec<_> = classes.into_iter().collect();
        let matrix = |addresses: &BTreeMap<IpAddr, Subject>| {
            let mut allowed = Vec::new();
            let mut own: Vec<_> = addresses.values().copied().collect();
            own.sort_unstable();
            own.dedup();
            for subject in own {
                if let Some(rules) = subjects.rules.get(&subject) {
                    rules.allow(subject, &listed, &ranges, ELEMENTS, &mut allowed);
                }
                if allowed.len() > ELEMENTS {
                    return Err(TooLarge::Elements { count: allowed.len() });
                }
            }
            allowed.sort_unstable();
            Ok(Matrix { subjects: addresses.clone(), allowed })
        };
        let (ingress, egress) = (matrix(&subjects.ingress)?, matrix(&subjects.egress)?);
        let behind = Arc::new(Behind { rules: subjects.rules, classes: listed.into_iter().collect() });
        Ok(Compiled { ingress, egress, peers, blocks, ports: ranges.segments, behind })
    }

    /// The class of each pod's address that is in a selector or has a port that is named.
    fn peers(
        &mut self,
        inputs: &Inputs<'_>,
        local: BTreeMap<IpAddr, &Pod>,
        subjects: &Subjects,
        segments: &Segments,
        classes: &mut BTreeMap<Class, ClassKey>,
    ) -> BTreeMap<IpAddr, Class> {
        let mut atoms = PodAtoms::new(
            subjects.atoms.iter().map(|(number, atom)| (*number, atom)),
            inputs.namespaces.iter().copied(),
        );
        // Pods with the same labels in the same namespace are looked at once.
        let mut of_labels: HashMap<(usize, usize), Vec<u32>> = HashMap::new();
        let mut of_ports: HashMap<usize, Vec<NamedPort>> = HashMap::new();
        let mut peers = BTreeMap::new();
        for (address, pod) in owners(inputs, local) {
            let atoms = of_labels
                .entry((pod.namespace.place(), pod.labels.place()))
                .or_insert_with(|| atoms.of(&pod.namespace, &pod.labels));
            let named = of_ports.entry(pod.named_ports.place()).or_insert_with(|| {
                let known = |port: &&NamedPort| subjects.named.contains(&(port.name.clone(), port.protocol));
                pod.named_ports.iter().filter(known).cloned().collect()
            });
            let mut key = ClassKey { atoms: atoms.clone(), named: named.clone() };
            if key.is_empty() {
                continue;
            }
            key.atoms.extend(segments.at(address));
            key.atoms.sort_unstable();
            peers.insert(address, self.class(key, classes));
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

/// The pods that are attached here, by the addresses that they hold.
fn local<'a>(inputs: &Inputs<'a>) -> BTreeMap<IpAddr, &'a Pod> {
    let mut local = BTreeMap::new();
    for held in inputs.local.iter().filter(|held| !held.pod.host_network) {
        held.addresses.iter().for_each(|address| keep_newer(&mut local, *address, held.pod));
    }
    local
}

/// The pod that an address belongs to, as a peer. Pods of the node's own network have none, and finished ones have none any
/// more. A pod of this node has those that it holds, and no others.
fn owners<'a>(inputs: &Inputs<'a>, local: BTreeMap<IpAddr, &'a Pod>) -> BTreeMap<IpAddr, &'a Pod> {
    let is_peer = |pod: &&Pod| !pod.host_network && !pod.finished;
    let elsewhere = |pod: &&Pod| inputs.node.is_empty() || *pod.node != *inputs.node;
    let mut owners = BTreeMap::new();
    for pod in inputs.pods.iter().copied().filter(is_peer).filter(elsewhere) {
        for address in pod.addresses.iter().filter(|address| !local.contains_key(address)) {
            keep_newer(&mut owners, *address, pod);
        }
    }
    owners.extend(local.into_iter().filter(|(_, pod)| is_peer(pod)));
    owners
}

/// Where two pods claim an address, the one that was created last has it.
fn keep_newer<'a>(pods: &mut BTreeMap<IpAddr, &'a Pod>, address: IpAddr, pod: &'a Pod) {
    let held = pods.entry(address).or_insert(pod);
    if (held.created, &held.uid, &held.name) < (pod.created, &pod.uid, &pod.name) {
        *held = pod;
    }
}
