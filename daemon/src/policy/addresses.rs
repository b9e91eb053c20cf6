//! The addresses of this node that are judged: each with its subject, and what else is said of it. Pods that are alike in all that
//! policies select by are looked at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::policy::element::Subject;
use crate::policy::labels::Labels;
use crate::policy::named_ports::NamedPorts;
use crate::policy::network_policy::Direction;
use crate::policy::pod::Pod;
use crate::policy::text::Text;

/// The addresses that are judged.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The subject of each, of ingress and of egress.
    ingress: BTreeMap<IpAddr, Subject>,
    egress: BTreeMap<IpAddr, Subject>,
    /// Those that policies of the cluster select, too.
    pub(super) tiered: BTreeSet<(Direction, IpAddr)>,
    /// Those of which it is counted what policies would refuse that are not enforced.
    pub(super) audited: BTreeSet<(Direction, IpAddr)>,
}

/// What is said of an address in a direction: its subject, whether it is tiered, and whether it is audited.
type Said = (Option<Subject>, bool, bool);

/// What has been said of pods, by all that policies select by.
#[derive(Debug, Default)]
pub(super) struct Alike(HashMap<[usize; 3], Known>);

/// What has been said of pods that are alike, and what they are alike in: it is held, so that nothing else gets its place.
#[derive(Debug)]
struct Known {
    _held: (Text, Labels, NamedPorts),
    said: [Said; 2],
}

impl Addresses {
    /// The subject of each address that is judged in a direction.
    pub(super) fn of(&self, direction: Direction) -> &BTreeMap<IpAddr, Subject> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Those addresses of a direction that policies of the cluster select, too, in order.
    pub(super) fn tiered(&self, direction: Direction) -> impl Iterator<Item = IpAddr> {
        self.tiered.iter().filter(move |(of, _)| *of == direction).map(|(_, address)| *address)
    }

    /// Those of which it is counted what policies would refuse that are not enforced, in order.
    pub(super) fn audited(&self, direction: Direction) -> impl Iterator<Item = IpAddr> {
        self.audited.iter().filter(move |(of, _)| *of == direction).map(|(_, address)| *address)
    }

    /// An address is of a subject.
    pub(super) fn set(&mut self, direction: Direction, address: IpAddr, subject: Subject) {
        let map = match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        };
        map.insert(address, subject);
    }

    fn said(&self, direction: Direction, address: IpAddr) -> Said {
        let at = (direction, address);
        (self.of(direction).get(&address).copied(), self.tiered.contains(&at), self.audited.contains(&at))
    }

    fn say(&mut self, address: IpAddr, said: [Said; 2]) {
        for (direction, (subject, is_tiered, is_audited)) in Direction::BOTH.into_iter().zip(said) {
            if let Some(subject) = subject {
                self.set(direction, address, subject);
            }
            self.tiered.extend(is_tiered.then_some((direction, address)));
            self.audited.extend(is_audited.then_some((direction, address)));
        }
    }

    /// Whether these have the same subjects as others, at whatever addresses.
    fn have_subjects_of(&self, others: &Self) -> bool {
        let distinct = |addresses: &Self| {
            Direction::BOTH.map(|direction| addresses.of(direction).values().copied().collect::<BTreeSet<_>>())
        };
        distinct(self) == distinct(others)
    }
}

impl Alike {
    /// Says of an address of a pod what has been said of those that are like it; whether there were any.
    pub(super) fn say(&self, addresses: &mut Addresses, address: IpAddr, pod: &Pod) -> bool {
        let Some(known) = self.0.get(&place(pod)) else { return false };
        addresses.say(address, known.said);
        true
    }

    /// Keeps what has been said of an address of a pod.
    pub(super) fn keep(&mut self, addresses: &Addresses, address: IpAddr, pod: &Pod) {
        let held = (pod.namespace.clone(), pod.labels.clone(), pod.named_ports.clone());
        let said = Direction::BOTH.map(|direction| addresses.said(direction, address));
        self.0.insert(place(pod), Known { _held: held, said });
    }

    /// The addresses of these pods, by what has been said of those that are like them. `None`: a pod is like none, or it is others
    /// whose like there is.
    pub(super) fn addresses(&self, local: &BTreeMap<IpAddr, &Pod>, before: &Addresses) -> Option<Addresses> {
        let mut addresses = Addresses::default();
        let all_known = local.iter().all(|(address, pod)| self.say(&mut addresses, *address, pod));
        (all_known && addresses.have_subjects_of(before)).then_some(addresses)
    }
}

/// What policies select a pod by: where its namespace, its labels and its named ports are held.
fn place(pod: &Pod) -> [usize; 3] {
    [pod.namespace.place(), pod.labels.place(), pod.named_ports.place()]
}
