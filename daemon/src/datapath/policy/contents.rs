//! The contents of the sets of table `inet podwire-policy`: what the policies were compiled to, as the kernel looks it up. Pure.
//!
//! What may not live here: the sets themselves (`layout`), and the rules that ask them (`chains`).

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::net::IpAddr;

use podwire_conf::rules::isolation::{self, Judged};
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{Entries, Field};

use crate::datapath::policy::combinations;
use crate::datapath::policy::layout::{self, prefix};
use crate::policy::changes::{Changes, MatrixChanges};
use crate::policy::compiled::Compiled;
use crate::policy::element::{BlockSegment, Class, Combination, Decided, ListedPort, Listing, PortSegment, Subject};
use crate::policy::network_policy::Direction;

/// Some of what the sets have: all of it, or what a change removes or adds. Of ingress, and of egress.
struct Part<'a> {
    subjects: [Vec<(IpAddr, Subject)>; 2],
    allowed: [&'a [Combination]; 2],
    decided: [&'a [Decided]; 2],
    listings: [&'a [Listing]; 2],
    /// Those of them of which it is counted what would be refused.
    audited: [Vec<IpAddr>; 2],
    /// The addresses that have subjects, and those of pods that are not known, and how each is judged.
    judged: [Vec<(IpAddr, Judged)>; 2],
    /// The addresses of these that come or go. What is refused is counted by them.
    isolated: [Vec<IpAddr>; 2],
    /// The same of both directions.
    itself: Vec<IpAddr>,
    peers: Vec<(IpAddr, Class)>,
    blocks: &'a [BlockSegment],
    ports: &'a [PortSegment],
    listed: &'a [ListedPort],
    /// Whether what always is in the table is in it.
    fixed: bool,
}

/// The contents of all sets.
pub(crate) fn contents(compiled: &Compiled) -> Vec<Entries> {
    fn pairs<T: Copy>(map: &BTreeMap<IpAddr, T>) -> Vec<(IpAddr, T)> {
        map.iter().map(|(address, number)| (*address, *number)).collect()
    }
    let matrices = Direction::BOTH.map(|direction| compiled.matrix(direction));
    let isolated = matrices.map(|matrix| matrix.subjects.keys().chain(&compiled.unknown).copied().collect::<Vec<_>>());
    let judged = Direction::BOTH.map(|direction| {
        let isolated = compiled.matrix(direction).subjects.keys().chain(&compiled.unknown).copied();
        isolated.filter_map(|address| Some((address, judged(compiled, direction, address)?))).collect()
    });
    let part = Part {
        subjects: matrices.map(|matrix| pairs(&matrix.subjects)),
        audited: matrices.map(|matrix| matrix.audited.iter().copied().collect()),
        allowed: matrices.map(|matrix| &matrix.allowed[..]),
        decided: matrices.map(|matrix| &matrix.decided[..]),
        listings: matrices.map(|matrix| &matrix.listings[..]),
        judged,
        itself: isolated.concat(),
        isolated,
        peers: pairs(&compiled.peers),
        blocks: &compiled.blocks,
        ports: &compiled.ports,
        listed: &compiled.listed,
        fixed: true,
    };
    part.entries().into_iter().flatten().collect()
}

/// How an address is judged; nothing where it is not.
fn judged(compiled: &Compiled, direction: Direction, address: IpAddr) -> Option<Judged> {
    let matrix = compiled.matrix(direction);
    // Of a pod that is not known nothing is decided.
    match (compiled.unknown.contains(&address), matrix.subjects.contains_key(&address)) {
        (false, false) => None,
        (false, true) if matrix.tiered.contains(&address) => Some(Judged::ByTiers),
        _ => Some(Judged::ByRules),
    }
}

/// How the addresses that a change concerns were judged before, and how they are now.
fn judged_otherwise(
    changes: &Changes,
    compiled: &Compiled,
    direction: Direction,
) -> Vec<(IpAddr, [Option<Judged>; 2])> {
    let MatrixChanges { subjects, tiered, .. } = changes.matrix(direction);
    let of = |subjects: &[(IpAddr, Subject)]| subjects.iter().map(|(address, _)| *address).collect::<BTreeSet<_>>();
    let [gone, come] = [&subjects.removed, &subjects.added].map(|subjects| of(subjects));
    let has = |list: &[IpAddr], address: &IpAddr| list.binary_search(address).is_ok();
    let concerned = gone.iter().chain(&come).chain(&changes.unknown.removed).chain(&changes.unknown.added);
    let concerned: BTreeSet<_> = concerned.chain(&tiered.removed).chain(&tiered.added).copied().collect();
    let matrix = compiled.matrix(direction);
    let pair = |address: IpAddr| {
        // What is there now without having come was there before, and so was what has gone.
        let was = |is: bool, gone: bool, come: bool| gone || (is && !come);
        let is_unknown = compiled.unknown.contains(&address);
        let was_unknown =
            was(is_unknown, has(&changes.unknown.removed, &address), has(&changes.unknown.added, &address));
        let had_subject = was(matrix.subjects.contains_key(&address), gone.contains(&address), come.contains(&address));
        let was_tiered =
            was(matrix.tiered.contains(&address), has(&tiered.removed, &address), has(&tiered.added, &address));
        let before = match (was_unknown, had_subject) {
            (false, false) => None,
            (false, true) if was_tiered => Some(Judged::ByTiers),
            _ => Some(Judged::ByRules),
        };
        (address, [before, judged(compiled, direction, address)])
    };
    concerned.into_iter().map(pair).collect()
}

/// What a change that led to the compiled form removes from sets, and what it adds: of each that it concerns.
pub(crate) fn changed(changes: &Changes, compiled: &Compiled) -> Vec<[Entries; 2]> {
    let matrices = Direction::BOTH.map(|direction| changes.matrix(direction));
    let judged = Direction::BOTH.map(|direction| judged_otherwise(changes, compiled, direction));
    // In the place `from` and not in the other: an element is not written again that is there, since it may count.
    let judged_in = |from: usize| {
        judged.each_ref().map(|judged| {
            let differ = judged.iter().filter(|(_, states)| states[0] != states[1]);
            differ.filter_map(|(address, states)| Some((*address, states[from]?))).collect::<Vec<_>>()
        })
    };
    let isolated_in = |from: usize| {
        judged.each_ref().map(|judged| {
            let is_only =
                |(_, states): &&(IpAddr, [Option<Judged>; 2])| states[from].is_some() && states[1 - from].is_none();
            judged.iter().filter(is_only).map(|(address, _)| *address).collect::<Vec<_>>()
        })
    };
    // One that is isolated in the other direction before and after still reaches itself.
    let is_isolated = |direction: Direction, address: &IpAddr| self::judged(compiled, direction, *address).is_some();
    let was_isolated = |place: usize, address: &IpAddr| match judged[place].iter().find(|(other, _)| other == address) {
        Some((_, states)) => states[0].is_some(),
        None => is_isolated(Direction::BOTH[place], address),
    };
    let (gone, come) = (isolated_in(0), isolated_in(1));
    let mut itself = gone.concat();
    itself.retain(|address| Direction::BOTH.iter().all(|direction| !is_isolated(*direction, address)));
    let mut own = come.concat();
    own.retain(|address| (0..Direction::BOTH.len()).all(|place| !was_isolated(place, address)));
    let removed = Part {
        subjects: matrices.map(|matrix| matrix.subjects.removed.clone()),
        audited: matrices.map(|matrix| matrix.audited.removed.clone()),
        allowed: matrices.map(|matrix| &matrix.allowed.removed[..]),
        decided: matrices.map(|matrix| &matrix.decided.removed[..]),
        listings: matrices.map(|matrix| &matrix.listings.removed[..]),
        judged: judged_in(0),
        isolated: gone,
        itself,
        peers: changes.peers.removed.clone(),
        blocks: &changes.blocks.removed,
        ports: &changes.ports.removed,
        listed: &changes.listed.removed,
        fixed: false,
    };
    let added = Part {
        subjects: matrices.map(|matrix| matrix.subjects.added.clone()),
        audited: matrices.map(|matrix| matrix.audited.added.clone()),
        allowed: matrices.map(|matrix| &matrix.allowed.added[..]),
        decided: matrices.map(|matrix| &matrix.decided.added[..]),
        listings: matrices.map(|matrix| &matrix.listings.added[..]),
        judged: judged_in(1),
        isolated: come,
        itself: own,
        peers: changes.peers.added.clone(),
        blocks: &changes.blocks.added,
        ports: &changes.ports.added,
        listed: &changes.listed.added,
        fixed: false,
    };
    // What both have stays, such as the end of a segment whose class is another one.
    let both = |pair: (Option<Entries>, Option<Entries>)| match pair {
        (None, None) => None,
        (Some(removed), None) => {
            let none = removed.none();
            Some([removed, none])
        }
        (None, Some(added)) => Some([added.none(), added]),
        (Some(removed), Some(added)) => Some([removed.without(&added), added.without(&removed)]),
    };
    let pairs = removed.entries().into_iter().zip(added.entries()).filter_map(both);
    pairs.filter(|[removed, added]| !(removed.is_empty() && added.is_empty())).collect()
}

impl Part<'_> {
    /// The entries of each set, always in the same order. Of a part that is not everything, sets without any are left out.
    fn entries(&self) -> Vec<Option<Entries>> {
        let ranges = self.ports.iter();
        let ranges = ranges.map(|segment| (Field::Port(segment.first), Field::Port(segment.last), segment.range.0));
        let mut all = vec![self.some(ranges, |ranges| Entries::ranges(layout::ranges(), ranges))];
        all.extend(combinations::listed(self.listed, self.fixed));
        for (place, direction) in Direction::BOTH.into_iter().enumerate() {
            let (subjects, isolated) = (&self.subjects[place], &self.isolated[place]);
            let (judged, audited) = (&self.judged[place], &self.audited[place]);
            all.extend(combinations::allowed(direction, self.allowed[place], self.fixed));
            all.extend(combinations::decided(direction, self.decided[place], self.fixed));
            all.push(combinations::listings(direction, self.listings[place], self.fixed));
            for version in IpVersion::BOTH {
                let is = |address: &IpAddr| IpVersion::of(*address) == version;
                let subjects = subjects.iter().filter(|(address, _)| is(address));
                let numbers = subjects.map(|(address, subject)| ([Field::Address(*address)], subject.0));
                let judged = judged.iter().copied().filter(|(address, _)| is(address));
                let keys = |addresses: &'_ [IpAddr]| -> Vec<_> {
                    addresses.iter().copied().filter(is).map(|address| [Field::Address(address)]).collect()
                };
                all.extend([
                    self.some(judged, |judged| isolation::entries(prefix(direction), version, judged)),
                    self.some(keys(isolated), |keys| Entries::keys(layout::refused(direction, version), keys)),
                    self.some(keys(audited), |keys| Entries::keys(layout::audited(direction, version), keys)),
                    self.some(numbers, |numbers| Entries::numbers(layout::subjects(direction, version), numbers)),
                    self.fixed.then(|| layout::verdict_entries(direction, version)),
                ]);
            }
        }
        all.extend(IpVersion::BOTH.into_iter().flat_map(|version| self.of_peers(version)));
        all
    }

    fn of_peers(&self, version: IpVersion) -> [Option<Entries>; 3] {
        let is = |address: &IpAddr| IpVersion::of(*address) == version;
        let peers = self.peers.iter().filter(|(address, _)| is(address));
        let peers = peers.map(|(address, class)| ([Field::Address(*address)], class.0));
        let blocks = self.blocks.iter().filter(|segment| is(&segment.first));
        let blocks =
            blocks.map(|segment| (Field::Address(segment.first), Field::Address(segment.last), segment.class.0));
        let own = self.itself.iter().filter(|address| is(address)).map(|address| [Field::Address(*address); 2]);
        [
            self.some(peers, |peers| Entries::numbers(layout::peers(version), peers)),
            self.some(blocks, |blocks| Entries::ranges(layout::blocks(version), blocks)),
            self.some(own, |own| Entries::keys(layout::itself(version), own)),
        ]
    }

    /// Entries of these, where there are any, or where it is everything.
    fn some<I: IntoIterator>(&self, of: I, make: impl FnOnce(Peekable<I::IntoIter>) -> Entries) -> Option<Entries> {
        let mut of = of.into_iter().peekable();
        (self.fixed || of.peek().is_some()).then(|| make(of))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::documents::Objects;
    use crate::policy::incremental::{Changed, Incremental};
    use crate::policy::inputs::{Inputs, Local};

    /// Nothing but a comment.
    const UNKNOWN: &str = "# unknown\n";

    const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: own, namespace: a, labels: {app: own}}
spec: {nodeName: here, containers: [{name: main}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: a, labels: {app: other}}
spec: {nodeName: there, containers: [{name: main}]}
status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
";

    fn policy(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: a}}\n\
             spec: {{podSelector: {{matchLabels: {{app: own}}}}, {spec}}}\n"
        )
    }

    #[test]
    fn what_a_change_removes_and_adds_is_the_difference_of_all_contents() {
        let ingress =
            policy("in", "ingress: [{from: [{podSelector: {matchLabels: {app: other}}}], ports: [{port: 80}]}]");
        let egress = policy("out", "policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]");
        let block = |prefix: &str, range: u16| {
            let rule = format!("{{from: [{{ipBlock: {{cidr: {prefix}}}}}], ports: [{{port: 1, endPort: {range}}}]}}");
            policy("block", &format!("ingress: [{rule}]"))
        };
        // Every sort of rule, in both directions.
        let to = "podSelector: {matchLabels: {app: other}}";
        let all = [
            format!("{{PEERS: [{{{to}}}]}}"),
            format!("{{PEERS: [{{{to}}}], ports: [{{port: 443}}, {{port: 1000, endPort: 2000}}]}}"),
            "{ports: [{port: 22}, {port: 3000, endPort: 4000}]}".to_owned(),
        ];
        let both = |name: &str, rules: &str| {
            let [ingress, egress] = ["from", "to"].map(|peers| rules.replace("PEERS", peers));
            policy(name, &format!("policyTypes: [Ingress, Egress], ingress: [{ingress}], egress: [{egress}]"))
        };
        let audits =
            |policy: String| policy.replace("namespace: a}", "namespace: a, annotations: {podwire.dev/audit: 'true'}}");
        let cluster = |audit: bool| {
            let to = "pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: other}}}";
            let rules = format!(
                "[{{action: Deny, PEERS: [{{{to}}}], protocols: [{{tcp: {{destinationPort: {{number: 443}}}}}}, \
                 {{udp: {{destinationPort: {{range: {{start: 1000, end: 2000}}}}}}}}]}}, \
                 {{action: Pass, PEERS: [{{{to}}}], protocols: [{{tcp: {{destinationPort: {{number: 22}}}}}}]}}, \
                 {{action: Accept, PEERS: [{{{to}}}]}}]"
            );
            let [ingress, egress] = ["from", "to"].map(|peers| rules.replace("PEERS", peers));
            format!(
                "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: tiers, \
                 annotations: {{podwire.dev/audit: '{audit}'}}}}\nspec: {{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, \
                 ingress: {ingress}, egress: {egress}}}\n"
            )
        };
        let steps = [
            String::new(),
            ingress.clone(),
            ingress.clone() + &egress,
            egress.clone(),
            egress.clone() + &block("192.168.0.0/24", 9),
            egress.clone() + &block("192.168.0.0/25", 99),
            egress + &block("192.168.0.0/25", 99) + &block("2001:db8::/64", 9).replace("block", "more"),
            ingress.clone(),
            both("all", &all[1..].join(", ")),
            both("all", &all[0]),
            both("all", "{}"),
            // Not enforced, enforced, and not enforced beside one that is.
            audits(both("audit", &all[1])),
            both("audit", &all[1]),
            audits(both("audit", &all[1])),
            audits(both("audit", &all[1])) + &ingress,
            String::new(),
            ingress,
            // The tiers come, with NetworkPolicies and without, and only audited.
            cluster(false) + &both("all", &all[1..].join(", ")),
            cluster(true) + &both("all", &all[1..].join(", ")),
            cluster(true),
            cluster(false),
            both("all", &all[1..].join(", ")),
            cluster(false),
            // It is forgotten, and becomes known again.
            UNKNOWN.to_owned(),
            cluster(false),
            String::new(),
        ];
        let own: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let (mut incremental, mut concerned) = (Incremental::default(), BTreeMap::new());
        for (place, policies) in steps.iter().enumerate() {
            let objects = Objects::read(&(PODS.to_owned() + policies)).unwrap();
            // While its object is not known the pod is allowed nothing.
            let (local, unknown) = match place == 0 || *policies == UNKNOWN {
                true => (Vec::new(), own.into()),
                false => (vec![Local { pod: &objects.pods[0], addresses: &own }], [].into()),
            };
            let inputs = Inputs {
                node: "here",
                namespaces: objects.namespaces.iter().collect(),
                policies: objects.policies.iter().collect(),
                cluster_policies: objects.cluster_policies.iter().collect(),
                local,
                unknown,
                ..Inputs::default()
            };
            let before = contents(incremental.compiled());
            let changes = incremental.follow(Changed::Subjects, inputs, objects.pods.iter(), []).unwrap();
            let changed = changed(&changes, incremental.compiled());
            for (before, after) in before.iter().zip(contents(incremental.compiled())) {
                let name = &before.set().name;
                let [removed, added] = match changed.iter().find(|[removed, _]| removed.set().name == *name) {
                    Some(change) => change.clone(),
                    None => [before.none(), before.none()],
                };
                assert_eq!(removed, before.without(&after), "removed from {name} by step {place}");
                assert_eq!(added, after.without(before), "added to {name} by step {place}");
                *concerned.entry(name.clone()).or_insert(0) += removed.len() + added.len();
            }
        }
        // What decisions come to is always the same.
        concerned.retain(|name, _| !name.contains("-verdicts"));
        let idle = concerned.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str());
        let idle: Vec<_> = idle.collect();
        assert!(idle.is_empty(), "these sets were concerned by no step: {idle:?}");
    }
}
