//! Clusters that change step by step, followed as the daemon follows them: each form is what compiling from scratch makes, up to
//! numbers, its changes lead to it from the one before, and the evaluator agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use policy_model::evaluator;
use policy_model::packet::Direction as End;
use policy_model::random::Random;
use serde_json::Value;

use crate::policy::change::Change;
use crate::policy::changes::Changes;
use crate::policy::cluster_policy::{self, ClusterPolicy};
use crate::policy::compiled::Compiled;
use crate::policy::compiler::Compiler;
use crate::policy::element::{Class, Combination, PortOrRange, PortRange, Subject};
use crate::policy::incremental::{Changed, Incremental};
use crate::policy::inputs::{Inputs, Local};
use crate::policy::namespace::{self, Namespace};
use crate::policy::network_policy::{self, Direction, NetworkPolicy};
use crate::policy::owners::Owners;
use crate::policy::pod::{self, Pod};
use crate::policy::restricted::Restricted;
use crate::policy::tests::world::{Compile, HERE, World, decode, packet_of};

const CLUSTERS: u64 = 120;
const STEPS: u64 = 25;
const PACKETS: u64 = 10;

/// A cluster as the daemon follows it.
struct Followed {
    owners: Owners,
    incremental: Incremental,
    world: World,
    pods: Vec<Arc<Pod>>,
}

impl Followed {
    fn step(&mut self, world: &World) -> Changes {
        let decoded: Vec<Pod> = decode::<pod::Wire, _>(&world.pods);
        let pods: Vec<Arc<Pod>> = decoded
            .into_iter()
            .enumerate()
            .map(|(place, pod)| match self.pods.get(place).filter(|before| ***before == pod) {
                Some(same) => same.clone(),
                None => Arc::new(pod),
            })
            .collect();
        for place in 0..pods.len().max(self.pods.len()) {
            let (before, after) = (self.pods.get(place), pods.get(place));
            if before.map(Arc::as_ptr) != after.map(Arc::as_ptr) {
                self.owners.change(before, after);
            }
        }
        let held: Vec<_> = world.held.iter().map(|(address, place)| (&pods[*place], [*address])).collect();
        let objects_here = |world: &World, pods: &[Arc<Pod>]| -> BTreeMap<IpAddr, Pod> {
            world.held.iter().map(|(address, place)| (*address, (*pods[*place]).clone())).collect()
        };
        let same_here = objects_here(&self.world, &self.pods) == objects_here(world, &pods);
        self.owners.attach(held.iter().map(|(pod, addresses)| (*pod, &addresses[..])));
        let changed = if self.world.namespaces != world.namespaces || self.world.judged_as != world.judged_as {
            Changed::All
        } else if self.world.policies != world.policies || self.world.cluster_policies != world.cluster_policies {
            Changed::Subjects
        } else if !same_here {
            Changed::Attached
        } else {
            Changed::Owners
        };
        let namespaces: Vec<Namespace> = decode::<namespace::Wire, _>(&world.namespaces);
        let policies: Vec<NetworkPolicy> = decode::<network_policy::Wire, _>(&world.policies);
        let cluster_policies: Vec<ClusterPolicy> = decode::<cluster_policy::Wire, _>(&world.cluster_policies);
        let inputs = Inputs {
            node: HERE,
            pods: Vec::new(),
            namespaces: namespaces.iter().collect(),
            policies: policies.iter().collect(),
            cluster_policies: cluster_policies.iter().collect(),
            local: held.iter().map(|(pod, addresses)| Local { pod, addresses }).collect(),
            unknown: world.unknown.clone(),
            judged_as: world.judged_as.clone(),
        };
        let owners = self.owners.changed();
        let owners = owners.iter().map(|(address, pod)| (*address, pod.as_deref()));
        let changes = self.incremental.follow(changed, inputs, pods.iter().map(|pod| &**pod), owners).unwrap();
        (self.world, self.pods) = (world.clone(), pods);
        changes
    }
}

#[test]
fn any_sequence_of_changes_ends_in_what_compiling_from_scratch_makes() {
    let mut restricting = [0, 0];
    // Packets that need not be judged again, and those that are refused.
    let mut spared = [0, 0];
    // Those that would be refused, of which an end has gone.
    let mut left = 0;
    // How often something is audited, becomes enforced, or is unknown; how often namespaces come or go; how often pods get into tiers
    // or out of them, and something else is decided for them although they stay there.
    let mut seen = [0; 6];
    for seed in 0..CLUSTERS {
        let mut random = Random(seed);
        // Every second one has ClusterNetworkPolicies.
        let mut world = if seed % 2 == 0 { random.world() } else { random.tiered_world() };
        let (owners, incremental) = (Owners::new(HERE), Incremental::default());
        let mut followed = Followed { owners, incremental, world: World::default(), pods: Vec::new() };
        for step in 0..STEPS {
            if step > 0 {
                random.change(&mut world);
            }
            let (old, before) = (followed.incremental.compiled().clone(), followed.world.clone());
            let changes = followed.step(&world);
            let new = followed.incremental.compiled();
            let fresh = world.compile(&mut Compiler::default());
            let place = format!("seed {seed}, step {step}");
            assert_eq!(named(new), named(&fresh), "{place}\n{world:#?}");
            lead(&old, new, &changes, &place);
            for _ in 0..PACKETS {
                let packet = random.packet(&world);
                let verdict = new.verdict(&packet_of(packet));
                for (direction, said) in [(End::Ingress, verdict.ingress), (End::Egress, verdict.egress)] {
                    let expected = evaluator::allows(&world, direction, &packet);
                    assert_eq!(said, expected, "{place}: {direction:?} of {packet}\n{world:#?}\n{new:#?}");
                }
            }
            // Of pods that are still there.
            let lives = |address: IpAddr| {
                !owner(&before, address) || owner(&world, address) || world.unknown.contains(&address)
            };
            for packet in random.packets(&world) {
                let passes = |compiled: &Compiled| compiled.verdict(&packet_of(packet)).passes();
                let refused = passes(&old) && !passes(new);
                let has = |restricted: &Restricted| restricted.has(packet.source, packet.destination);
                if refused && lives(packet.source) && lives(packet.destination) {
                    assert!(has(&changes.restricted), "{place}: {packet} is refused now");
                    spared[1] += 1;
                } else if refused {
                    assert!(has(&changes.restricted) || has(&changes.left_behind), "{place}: {packet} was left behind");
                    left += 1;
                } else if !changes.restricted.has(packet.source, packet.destination) {
                    spared[0] += 1;
                }
            }
            restricting[usize::from(!changes.restricted.is_empty())] += 1;
            let any = |happens: &dyn Fn(Direction) -> bool| Direction::BOTH.iter().any(|direction| happens(*direction));
            for (count, is_so) in seen.iter_mut().zip([
                any(&|direction| !new.matrix(direction).audited.is_empty()),
                any(&|direction| !changes.matrix(direction).audited.removed.is_empty()),
                !new.unknown.is_empty(),
                step > 0 && before.namespaces.len() != world.namespaces.len(),
                step > 0 && any(&|direction| !changes.matrix(direction).tiered.is_empty()),
                step > 0
                    && any(&|direction| {
                        let changes = changes.matrix(direction);
                        changes.tiered.is_empty() && !(changes.decided.is_empty() && changes.listings.is_empty())
                    }),
            ]) {
                *count += usize::from(is_so);
            }
            let (numbered, used) = followed.incremental.classes();
            assert_eq!(numbered, used, "{place}: a class that nobody has keeps its number");
            let (numbered, used) = followed.incremental.lists();
            assert_eq!(numbered, used, "{place}: a list of ports that nobody has keeps its number");
        }
    }
    assert!(restricting.iter().all(|count| *count > 100), "neither answer is rare: {restricting:?}");
    assert!(left > 100, "that is not rare: {left}");
    assert!(spared.iter().all(|count| *count > 1000), "neither is rare: {spared:?}");
    assert!(seen.iter().all(|count| *count > 20), "each happens: {seen:?}");
}

#[test]
fn what_a_peer_loses_that_is_still_there_restricts_and_nothing_else_of_a_peer_does() {
    let mut world = World::of(
        "---\nkind: Pod\nmetadata: {name: web, namespace: default, labels: {app: web}}
spec: {nodeName: here}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}
---\nkind: NetworkPolicy\nmetadata: {name: from-far, namespace: default}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: far}}}]}]}
---\nkind: Pod\nmetadata: {name: far, namespace: default, labels: {app: far}}
spec: {nodeName: there}\nstatus: {phase: Running, podIPs: [{ip: 10.1.0.3}, {ip: 'fd00::3'}]}
",
    );
    let (owners, incremental) = (Owners::new(HERE), Incremental::default());
    let mut followed = Followed { owners, incremental, world: World::default(), pods: Vec::new() };
    let far = world.pods.pop().unwrap();
    let other = {
        let mut other = far.clone();
        other["metadata"]["labels"]["app"] = "other".into();
        other
    };
    followed.step(&world);
    let mut step = |pod: Option<&Value>| {
        world.pods.truncate(1);
        world.pods.extend(pod.cloned());
        let changes = followed.step(&world);
        let allowed = &changes.ingress.allowed;
        let restricts = [&changes.restricted, &changes.left_behind].map(|restricted| !restricted.is_empty());
        (allowed.added.len(), allowed.removed.len(), restricts)
    };
    assert_eq!(step(Some(&far)), (1, 0, [false, false]), "it comes");
    assert_eq!(step(Some(&other)), (0, 1, [true, false]), "it is not meant any more");
    assert_eq!(step(Some(&far)), (1, 0, [false, false]), "it is meant again");
    assert_eq!(step(None), (0, 1, [false, true]), "it has gone, and has left its connections behind");
}

/// Whether a pod has an address that selectors may mean it by.
fn owner(world: &World, address: IpAddr) -> bool {
    evaluator::owner(world, address).is_some()
}

/// What is compiled, with names in the place of numbers: the first user of each.
fn named(compiled: &Compiled) -> BTreeSet<String> {
    let mut classes: BTreeMap<Class, String> = BTreeMap::new();
    for (address, class) in &compiled.peers {
        classes.entry(*class).or_insert_with(|| address.to_string());
    }
    for segment in &compiled.blocks {
        classes.entry(segment.class).or_insert_with(|| segment.first.to_string());
    }
    let mut ranges: BTreeMap<PortRange, u16> = BTreeMap::new();
    for segment in &compiled.ports {
        ranges.entry(segment.range).or_insert(segment.first);
    }
    let mut lines: BTreeSet<String> = BTreeSet::new();
    lines.extend(compiled.peers.iter().map(|(address, class)| format!("peer {address} {}", classes[class])));
    let blocks = compiled.blocks.iter();
    lines.extend(blocks.map(|block| format!("block {} {} {}", block.first, block.last, classes[&block.class])));
    lines.extend(compiled.ports.iter().map(|one| format!("ports {} {} {}", one.first, one.last, ranges[&one.range])));
    lines.extend(compiled.unknown.iter().map(|address| format!("unknown {address}")));
    for direction in Direction::BOTH {
        let matrix = compiled.matrix(direction);
        lines.extend(matrix.audited.iter().map(|address| format!("{direction:?} audited {address}")));
        let mut subjects: BTreeMap<Subject, IpAddr> = BTreeMap::new();
        for (address, subject) in &matrix.subjects {
            let first = *subjects.entry(*subject).or_insert(*address);
            lines.insert(format!("{direction:?} subject {address} {first}"));
        }
        lines.extend(matrix.tiered.iter().map(|address| format!("{direction:?} tiered {address}")));
        let line = |allowed: &Combination| match allowed {
            Combination::Everything(subject) => format!("{} everything", subjects[subject]),
            Combination::AnyPeer(subject, protocol, port) => {
                format!("{} any peer {protocol} {port}", subjects[subject])
            }
            Combination::AnyPeerRange(subject, protocol, range) => {
                format!("{} any peer {protocol} of {}", subjects[subject], ranges[range])
            }
            Combination::AnyPort(subject, class) => format!("{} {} any port", subjects[subject], classes[class]),
        };
        lines.extend(matrix.allowed.iter().map(|allowed| format!("{direction:?} {}", line(allowed))));
        let decided = matrix.decided.iter();
        lines.extend(
            decided.map(|one| format!("{direction:?} {} is decided: {:?}", line(&one.combination), one.decision)),
        );
        for one in &matrix.listings {
            let (subject, class) = (subjects[&one.subject], &classes[&one.class]);
            let listed: Vec<_> = compiled.listed.iter().filter(|line| line.list == one.list).collect();
            assert!(!listed.is_empty(), "a list with nothing in it");
            lines.extend(listed.into_iter().map(|line| {
                let (protocol, ports, decision) = line.listed;
                let ports = match ports {
                    PortOrRange::Port(port) => port.to_string(),
                    PortOrRange::Range(range) => format!("of {}", ranges[&range]),
                };
                format!("{direction:?} {subject} {class} {protocol} {ports} is listed: {decision:?}")
            }));
        }
        assert!(matrix.allowed.is_sorted() && matrix.decided.is_sorted(), "lookups need an order");
        assert!(matrix.listings.is_sorted(), "lookups need an order");
    }
    assert!(compiled.listed.is_sorted(), "lookups need an order");
    // Nothing is listed for nobody.
    let used = Direction::BOTH.iter().flat_map(|direction| &compiled.matrix(*direction).listings).map(|one| one.list);
    let listed: BTreeSet<_> = compiled.listed.iter().map(|line| line.list).collect();
    assert_eq!(used.collect::<BTreeSet<_>>(), listed);
    lines
}

/// The changes lead from one form to the next.
fn lead(old: &Compiled, new: &Compiled, changes: &Changes, place: &str) {
    fn leads<T: Ord + Copy + Debug>(
        old: impl IntoIterator<Item = T>,
        new: impl IntoIterator<Item = T>,
        change: &Change<T>,
        place: &str,
    ) {
        let mut set: BTreeSet<T> = old.into_iter().collect();
        assert!(change.removed.iter().all(|one| set.remove(one)), "{place}: {change:?} removes what is not there");
        assert!(change.added.iter().all(|one| set.insert(*one)), "{place}: {change:?} adds what is there");
        assert_eq!(set, new.into_iter().collect(), "{place}: {change:?}");
    }
    for direction in Direction::BOTH {
        let (old, new, changes) = (old.matrix(direction), new.matrix(direction), changes.matrix(direction));
        leads(old.allowed.iter().copied(), new.allowed.iter().copied(), &changes.allowed, place);
        leads(old.decided.iter().copied(), new.decided.iter().copied(), &changes.decided, place);
        leads(old.listings.iter().copied(), new.listings.iter().copied(), &changes.listings, place);
        leads(old.tiered.clone(), new.tiered.clone(), &changes.tiered, place);
        leads(old.subjects.clone(), new.subjects.clone(), &changes.subjects, place);
        leads(old.audited.clone(), new.audited.clone(), &changes.audited, place);
    }
    leads(old.unknown.clone(), new.unknown.clone(), &changes.unknown, place);
    leads(old.peers.clone(), new.peers.clone(), &changes.peers, place);
    leads(old.blocks.iter().copied(), new.blocks.iter().copied(), &changes.blocks, place);
    leads(old.ports.iter().copied(), new.ports.iter().copied(), &changes.ports, place);
    leads(old.listed.iter().copied(), new.listed.iter().copied(), &changes.listed, place);
}
