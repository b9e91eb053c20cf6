//! Which probe is sent when, and what its answer or silence means. Pure: time is handed in.
//!
//! Every address is probed again and again at a low rate; one that has not answered is probed again soon, so that a lost
//! packet and a lost peer are distinguished within seconds. The path to a node is tried with the largest packet there is; if
//! that does not come through and a small one does, a ladder of sizes shows how large a packet may be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podwire_conf::hash;

use crate::observe::probe::icmp;
use crate::report::probes::{Echoes, Path, Probed, SILENT_AFTER};

/// The time between two probes of an address, in seconds.
const INTERVAL: u32 = 30;

/// The time between two measurements of a path, in seconds.
const PATH_INTERVAL: u32 = 300;

/// The time between two measurements of a path that others have claimed to be smaller, in seconds: whoever forges such a claim
/// again and again has a peer's path measured no more often than its overlay address is probed.
const CLAIM_INTERVAL: u32 = INTERVAL;

/// What has not answered in time is probed again at once, a few times.
const AGAIN: u32 = 0;

/// What has not come after so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Sizes of packets that links commonly take, in bytes, from Ethernet's large ones over tunnels of all kinds down to what
/// every link takes.
const LADDER: [u32; 20] = [
    9000, 8950, 4352, 1500, 1492, 1480, 1472, 1460, 1450, 1430, 1420, 1400, 1380, 1350, 1320, 1280, 1200, 1000, 576,
    100,
];

/// What a peer is probed for: that the overlay address of each family answers, and how large a packet may be on the path
/// to its node.
const TARGETS: usize = 3;
const UNDERLAY: usize = 2;

/// The addresses of one node: overlay IPv4, overlay IPv6, underlay.
pub(super) type Addresses = [Option<IpAddr>; TARGETS];

/// A probe to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) number: u16,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) size: u32,
}

/// A peer. Ten thousand of them are to fit into a few megabytes, so names are shared and times are seconds.
#[derive(Debug)]
struct ProbedPeer {
    name: Arc<str>,
    targets: [Option<Target>; TARGETS],
    /// Which setting of the peers has named it last.
    setting: u32,
}

#[derive(Debug)]
struct Target {
    address: IpAddr,
    /// Seconds since the beginning.
    due: u32,
    /// Probes of the present round that are neither answered nor lost yet.
    open: u16,
    state: State,
}

#[derive(Debug)]
enum State {
    Overlay(Echoes),
    Underlay {
        /// The largest packet that came through, in bytes; 0 where that is not known.
        largest: u32,
        /// The largest packet of the present round that came through.
        through: u32,
        /// Rounds with the largest packet that came to nothing.
        tried: u8,
        /// Seconds since the beginning from which on a claim has the path measured.
        heeded: u32,
    },
}

#[derive(Debug)]
struct Sent {
    place: (u32, u8),
    at: Instant,
    size: u32,
}

/// All probes.
#[derive(Debug)]
pub(super) struct Schedule {
    beginning: Instant,
    sources: Addresses,
    /// The largest packet of the underlay, in bytes.
    mtu: u32,
    setting: u32,
    peers: BTreeMap<u32, ProbedPeer>,
    names: BTreeMap<Arc<str>, u32>,
    newest: u32,
    /// When which target is due: seconds, the peer, the target.
    queue: BTreeSet<(u32, u32, u8)>,
    sent: HashMap<u16, Sent>,
    next: u16,
    changed: BTreeSet<u32>,
    gone: Vec<Arc<str>>,
}

impl Schedule {
    pub(super) fn new(beginning: Instant) -> Self {
        Self {
            beginning,
            sources: [None; TARGETS],
            mtu: 0,
            setting: 0,
            peers: BTreeMap::new(),
            names: BTreeMap::new(),
            newest: 0,
            queue: BTreeSet::new(),
            sent: HashMap::new(),
            next: 0,
            changed: BTreeSet::new(),
            gone: Vec::new(),
        }
    }

    fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.beginning).as_secs()).unwrap_or(u32::MAX)
    }

    /// Sets which peers are probed, from where, and the underlay's largest packet. New targets are probed first; those that
    /// have changed start again.
    pub(super) fn set<'a>(
        &mut self,
        now: Instant,
        sources: Addresses,
        mtu: u32,
        peers: impl IntoIterator<Item = (&'a str, Addresses)>,
    ) {
        let same: [bool; TARGETS] =
            std::array::from_fn(|slot| sources[slot] == self.sources[slot] && (slot != UNDERLAY || mtu == self.mtu));
        (self.sources, self.mtu) = (sources, mtu);
        self.setting = self.setting.wrapping_add(1);
        for (name, addresses) in peers {
            let number = self.number(name);
            for (slot, address) in addresses.into_iter().enumerate() {
                let address = address.filter(|_| sources[slot].is_some());
                let found = self.peers.get(&number).and_then(|peer| peer.targets[slot].as_ref());
                if found.map(|target| target.address) == address && same[slot] {
                    continue;
                }
                self.forget(number, slot);
                let due = self.seconds(now);
                let Some((peer, address)) = self.peers.get_mut(&number).zip(address) else { continue };
                let state = match slot {
                    UNDERLAY => State::Underlay { largest: 0, through: 0, tried: 0, heeded: 0 },
                    _ => State::Overlay(Echoes::default()),
                };
                peer.targets[slot] = Some(Target { address, due, open: 0, state });
                self.queue.insert((due, number, byte(slot)));
            }
        }
        let setting = self.setting;
        let gone: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.setting != setting).map(|(number, _)| *number).collect();
        for number in gone {
            (0..TARGETS).for_each(|slot| self.forget(number, slot));
            if let Some(peer) = self.peers.remove(&number) {
                self.names.remove(&peer.name);
                self.changed.remove(&number);
                self.gone.push(peer.name);
            }
        }
    }

    /// The number of a peer, which is a new one where it is new.
    fn number(&mut self, name: &str) -> u32 {
        let setting = self.setting;
        if let Some(number) = self.names.get(name) {
            self.peers.entry(*number).and_modify(|peer| peer.setting = setting);
            return *number;
        }
        self.newest += 1;
        let name: Arc<str> = name.into();
        self.names.insert(name.clone(), self.newest);
        self.peers.insert(self.newest, ProbedPeer { name, targets: [None, None, None], setting });
        self.newest
    }

    /// Stops probing this target.
    fn forget(&mut self, number: u32, slot: usize) {
        let target = self.peers.get_mut(&number).and_then(|peer| peer.targets[slot].take());
        let Some(target) = target else { return };
        self.queue.remove(&(target.due, number, byte(slot)));
        self.sent.retain(|_, sent| sent.place != (number, byte(slot)));
        self.changed.insert(number);
    }

    fn target(&mut self, place: (u32, u8)) -> Option<&mut Target> {
        self.peers.get_mut(&place.0)?.targets.get_mut(usize::from(place.1))?.as_mut()
    }

    /// The probes that are due, about as many as are allowed: a ladder is sent whole.
    pub(super) fn due(&mut self, now: Instant, allowed: usize) -> Vec<Probe> {
        let (second, mtu) = (self.seconds(now), self.mtu);
        let mut probes = Vec::new();
        while probes.len() < allowed {
            let Some((due, number, slot)) = self.queue.first().copied().filter(|(due, ..)| *due <= second) else {
                break;
            };
            self.queue.remove(&(due, number, slot));
            let place = (number, slot);
            let Some(source) = self.sources[usize::from(slot)] else { continue };
            let Some(target) = self.target(place) else { continue };
            let destination = target.address;
            let small = u32::try_from(icmp::smallest(destination)).unwrap_or(u32::MAX) + 36;
            if let State::Underlay { through, .. } = &mut target.state {
                *through = 0;
            }
            let sizes = match &target.state {
                State::Overlay(_) => vec![small],
                State::Underlay { tried: 0 | 1, .. } => vec![mtu, small],
                // Each twice: a lost packet must not make a path look smaller than it is.
                State::Underlay { .. } => {
                    LADDER.into_iter().filter(|size| *size < mtu).chain([mtu]).flat_map(|size| [size; 2]).collect()
                }
            };
            target.open = u16::try_from(sizes.len()).unwrap_or(u16::MAX);
            for size in sizes {
                self.next = self.next.wrapping_add(1);
                self.sent.insert(self.next, Sent { place, at: now, size });
                probes.push(Probe { number: self.next, source, destination, size });
            }
        }
        probes
    }

    /// Enters an answer.
    pub(super) fn answered(&mut self, now: Instant, number: u16) {
        let Some(sent) = self.sent.remove(&number) else { return };
        let took = now.saturating_duration_since(sent.at);
        match self.target(sent.place).map(|target| &mut target.state) {
            Some(State::Overlay(echoes)) => echoes.answered(took),
            Some(State::Underlay { through, .. }) => *through = (*through).max(sent.size),
            None => {}
        }
        self.one_less(now, sent.place);
    }

    /// Enters that a probe is lost: it was not answered in time, or could not be sent.
    pub(super) fn lost(&mut self, now: Instant, number: u16) {
        let Some(sent) = self.sent.remove(&number) else { return };
        if let Some(State::Overlay(echoes)) = self.target(sent.place).map(|target| &mut target.state) {
            echoes.unanswered();
        }
        self.one_less(now, sent.place);
    }

    /// Enters that what was not answered is lost.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |sent: &Sent| now.saturating_duration_since(sent.at) >= LOST_AFTER;
        let lost: Vec<_> = self.sent.iter().filter(|(_, sent)| late(sent)).map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.lost(now, number));
    }

    /// A probe has come to its end; with the last one of a round, the round has.
    fn one_less(&mut self, now: Instant, place: (u32, u8)) {
        let (second, wanted) = (self.seconds(now), self.mtu);
        let Some(target) = self.target(place) else { return };
        target.open = target.open.saturating_sub(1);
        if target.open > 0 {
            return;
        }
        let pause = match &mut target.state {
            State::Overlay(echoes) => match echoes.silent_for() {
                1..SILENT_AFTER => AGAIN,
                _ => INTERVAL,
            },
            State::Underlay { largest, tried, through, .. } if *through >= wanted => {
                (*largest, *tried) = (wanted, 0);
                PATH_INTERVAL
            }
            // A node that does not answer at all may drop echoes: that says nothing about the size.
            State::Underlay { largest, tried, through: 0, .. } => {
                (*largest, *tried) = (0, 0);
                PATH_INTERVAL
            }
            State::Underlay { tried, .. } if *tried < 2 => {
                *tried += 1;
                AGAIN
            }
            State::Underlay { largest, tried, through, .. } => {
                (*largest, *tried) = (*through, 0);
                INTERVAL
            }
        };
        let due = second + spread(pause, place, second);
        target.due = due;
        self.queue.insert((due, place.0, place.1));
        self.changed.insert(place.0);
    }

    /// Brings forward the measurement of the paths to these addresses, which others have claimed to be smaller.
    pub(super) fn claimed(&mut self, now: Instant, addresses: &BTreeSet<IpAddr>) {
        if addresses.is_empty() {
            return;
        }
        let second = self.seconds(now);
        for (number, peer) in &mut self.peers {
            let Some(target) = peer.targets[UNDERLAY].as_mut().filter(|target| addresses.contains(&target.address))
            else {
                continue;
            };
            let State::Underlay { heeded, .. } = &mut target.state else { continue };
            let due = second.max(*heeded);
            // One that is under way is not in the queue: its answers tell as much.
            if due < target.due && self.queue.remove(&(target.due, *number, byte(UNDERLAY))) {
                *heeded = due + CLAIM_INTERVAL;
                target.due = due;
                self.queue.insert((due, *number, byte(UNDERLAY)));
            }
        }
    }

    /// The peers of which there is news, each with all that is known of it; `None` for one that is not probed any more.
    pub(super) fn news(&mut self) -> Vec<(Arc<str>, Option<Probed>)> {
        let gone = std::mem::take(&mut self.gone).into_iter().map(|name| (name, None));
        let changed = std::mem::take(&mut self.changed).into_iter();
        let known = changed
            .filter_map(|number| self.peers.get(&number))
            .map(|peer| (peer.name.clone(), Some(self.probed(peer))));
        // A peer that has gone and come again is there.
        gone.chain(known).collect()
    }

    fn probed(&self, peer: &ProbedPeer) -> Probed {
        let mut probed = Probed::default();
        for (slot, target) in peer.targets.iter().enumerate() {
            match target.as_ref().map(|target| &target.state) {
                Some(State::Overlay(echoes)) => probed.overlay[slot] = Some(*echoes),
                Some(State::Underlay { largest: largest @ 1.., .. }) => {
                    probed.path = Some(Path { largest: *largest, wanted: self.mtu });
                }
                _ => {}
            }
        }
        probed
    }
}

fn byte(slot: usize) -> u8 {
    u8::try_from(slot).unwrap_or(u8::MAX)
}

/// From three quarters of a pause to the whole of it, in seconds, by the target and the time: what was begun together does
/// not stay together.
fn spread(pause: u32, (number, slot): (u32, u8), second: u32) -> u32 {
    let share = hash::stable(&[&number.to_string(), &slot.to_string(), &second.to_string()]) % 256;
    pause - pause / 4 * u32::try_from(share).unwrap_or(0) / 256
}

#[cfg(test)]
mod tests;
