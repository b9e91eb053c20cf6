//! What follows from the policies for the pods of this node, as numbers: who is judged, as what a peer counts, and what is
//! allowed. The kernel's sets have the same content; what is not in them is denied.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::behind::Behind;
use crate::policy::element::{
    BlockSegment, Class, Combination, Decided, Decision, ListedPort, Listing, PortOrRange, PortRange, PortSegment,
    Subject,
};
use crate::policy::network_policy::Direction;
use crate::policy::port::Protocol;

/// The compiled form.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// Traffic to pods of this node.
    pub ingress: Matrix,
    /// Traffic from pods of this node.
    pub egress: Matrix,
    /// The class of each pod's address of which selectors or named ports tell more than blocks do.
    pub peers: BTreeMap<IpAddr, Class>,
    /// The class of every other address that is in a block: segments in order that do not overlap. A pod's class has its
    /// blocks in it, so it does no harm to look a pod up here as well.
    pub blocks: Vec<BlockSegment>,
    /// The range of each port that is in one: segments in order that do not overlap.
    pub ports: Vec<PortSegment>,
    /// The lists of ports that subjects have for classes, in order.
    pub listed: Vec<ListedPort>,
    /// Addresses of pods here of which no object is known: they are allowed nothing.
    pub unknown: BTreeSet<IpAddr>,
    /// Who is behind the numbers.
    pub(super) behind: Arc<Behind>,
}

/// One direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix {
    /// The addresses of pods that are judged, each with its subject.
    pub subjects: BTreeMap<IpAddr, Subject>,
    /// Those of them whose subjects have decisions, and nothing that is allowed: ClusterNetworkPolicies select them.
    pub tiered: BTreeSet<IpAddr>,
    /// Those of them of which it is counted what policies would refuse that are not enforced. Of one without decisions only such
    /// policies select it: what is not allowed passes.
    pub audited: BTreeSet<IpAddr>,
    /// What is allowed, in order and each once: those of one variant, which is one set of the kernel, follow each other.
    pub allowed: Vec<Combination>,
    /// What is decided, in order and each combination once: those of one variant follow each other.
    pub decided: Vec<Decided>,
    /// The lists of ports that subjects allow classes, or decide about, in order.
    pub listings: Vec<Listing>,
}

/// A packet that begins a connection, as the forward hook sees it: after DNAT, before SNAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Protocol and destination port; `None` for every protocol that policies do not know.
    pub port: Option<(Protocol, u16)>,
}

/// What the two ends of this node say of a packet. An end that is not isolated here allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The source's egress.
    pub egress: bool,
    /// The destination's ingress.
    pub ingress: bool,
}

impl Verdict {
    /// Whether both allow it.
    pub fn passes(self) -> bool {
        self.egress && self.ingress
    }
}

impl Packet {
    /// The end of the packet that a direction judges, and the other one.
    pub(super) fn ends(&self, direction: Direction) -> (IpAddr, IpAddr) {
        match direction {
            Direction::Ingress => (self.destination, self.source),
            Direction::Egress => (self.source, self.destination),
        }
    }
}

impl Compiled {
    /// One direction.
    pub fn matrix(&self, direction: Direction) -> &Matrix {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The class of a peer.
    pub fn class(&self, address: IpAddr) -> Option<Class> {
        self.peers.get(&address).copied().or_else(|| {
            let after = self.blocks.partition_point(|segment| segment.first <= address);
            let before = self.blocks.get(after.checked_sub(1)?)?;
            (address <= before.last).then_some(before.class)
        })
    }

    /// The range of a port.
    pub fn range(&self, port: u16) -> Option<PortRange> {
        let after = self.ports.partition_point(|segment| segment.first <= port);
        let before = self.ports.get(after.checked_sub(1)?)?;
        (port <= before.last).then_some(before.range)
    }

    /// What the kernel does with a packet that begins a connection, by the same lookups.
    pub fn verdict(&self, packet: &Packet) -> Verdict {
        let [ingress, egress] = Direction::BOTH.map(|direction| self.allows(direction, packet));
        Verdict { egress, ingress }
    }

    fn allows(&self, direction: Direction, packet: &Packet) -> bool {
        let (own, peer) = packet.ends(direction);
        let matrix = self.matrix(direction);
        if self.unknown.contains(&own) {
            return own == peer;
        }
        let Some(&subject) = matrix.subjects.get(&own) else { return true };
        // A pod always reaches itself.
        if own == peer {
            return true;
        }
        if matrix.tiered.contains(&own) {
            return self.decision(matrix, subject, peer, packet.port) != Decision::Refuse;
        }
        if matrix.audited.contains(&own) || matrix.has(Combination::Everything(subject)) {
            return true;
        }
        let (class, range) = (self.class(peer), packet.port.and_then(|(_, port)| self.range(port)));
        if class.is_some_and(|class| matrix.has(Combination::AnyPort(subject, class))) {
            return true;
        }
        let Some((protocol, port)) = packet.port else { return false };
        matrix.has(Combination::AnyPeer(subject, protocol, port))
            || range.is_some_and(|range| matrix.has(Combination::AnyPeerRange(subject, protocol, range)))
            || class.is_some_and(|class| self.listed(matrix, (subject, class), (protocol, port)).is_some())
    }

    /// What the list of a subject and a class says of a port, by its number before by its range.
    fn listed(
        &self,
        matrix: &Matrix,
        (subject, class): (Subject, Class),
        (protocol, port): (Protocol, u16),
    ) -> Option<Decision> {
        let place = matrix.listings.binary_search_by_key(&(subject, class), |one| (one.subject, one.class)).ok()?;
        let list = matrix.listings.get(place)?.list;
        let at = |ports: PortOrRange| {
            let key = (list, protocol, ports);
            let place = self.listed.binary_search_by_key(&key, |one| (one.list, one.listed.0, one.listed.1)).ok()?;
            self.listed.get(place).map(|one| one.listed.2)
        };
        at(PortOrRange::Port(port)).or_else(|| at(PortOrRange::Range(self.range(port)?)))
    }
}

impl Compiled {
    /// What is decided: by the most special combination that there is.
    fn decision(&self, matrix: &Matrix, subject: Subject, peer: IpAddr, port: Option<(Protocol, u16)>) -> Decision {
        let of_range = |(protocol, port)| Some((protocol, self.range(port)?));
        let of_class = self.class(peer).and_then(|class| {
            port.and_then(|port| self.listed(matrix, (subject, class), port))
                .or_else(|| matrix.decision(Combination::AnyPort(subject, class)))
        });
        let of_everybody = || {
            let at_port = port.map(|(protocol, port)| Combination::AnyPeer(subject, protocol, port));
            let at_range =
                port.and_then(of_range).map(|(protocol, range)| Combination::AnyPeerRange(subject, protocol, range));
            [at_port, at_range, Some(Combination::Everything(subject))]
                .into_iter()
                .flatten()
                .find_map(|combination| matrix.decision(combination))
        };
        // What nothing is said of is refused.
        of_class.or_else(of_everybody).unwrap_or(Decision::Refuse)
    }
}

impl Matrix {
    fn decision(&self, combination: Combination) -> Option<Decision> {
        let place = self.decided.binary_search_by_key(&combination, |decided| decided.combination).ok()?;
        self.decided.get(place).map(|decided| decided.decision)
    }

    fn has(&self, allowed: Combination) -> bool {
        self.allowed.binary_search(&allowed).is_ok()
    }
}
