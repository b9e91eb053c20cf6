//! Which probe is sent when, and what its answer or silence means. Pure: time is handed in.
//!
//! Every address is asked again and again at a gentle pace; one that has not answered is asked again soon, so that a lost
//! packet and a lost peer are told apart within seconds. The way to a node is tried with the largest packet there is; if
//! that does not come through and a small one does, a ladder of sizes shows how large a packet may be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use podwire_conf::hash;

use crate::echo;
use crate::report::{Echoes, Path, Probed};

/// The time between two probes of an address.
const INTERVAL: Duration = Duration::from_secs(30);

/// The time between two looks at the size that a way takes.
const PATH_INTERVAL: Duration = Duration::from_secs(300);

/// What has not answered in time is asked again at once, a few times.
const AGAIN: Duration = Duration::ZERO;

/// What has not come after so long is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// Sizes of packets that links commonly take, in bytes, from Ethernet's large ones over tunnels of all kinds down to what
/// every link takes.
const LADDER: [u32; 20] = [
    9000, 8950, 4352, 1500, 1492, 1480, 1472, 1460, 1450, 1430, 1420, 1400, 1380, 1350, 1320, 1280, 1200, 1000, 576,
    100,
];

/// An address that is asked for something, by the peer's name.
pub(super) type Key = (Arc<str>, Way);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Way {
    /// Whether an overlay address answers.
    Overlay(IpAddr),
    /// How large a packet may be on the way to the node's address.
    Underlay(IpAddr),
}

impl Way {
    fn address(self) -> IpAddr {
        match self {
            Self::Overlay(address) | Self::Underlay(address) => address,
        }
    }

    /// Whether two questions get the same answer: how large a packet may be matters where that is what is asked.
    fn is_same(self, one: &Question, other: &Question) -> bool {
        one.source == other.source && (one.mtu == other.mtu || matches!(self, Self::Overlay(_)))
    }
}

/// How an address is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// From where.
    pub(super) source: IpAddr,
    /// The largest packet, in bytes.
    pub(super) mtu: u32,
}

/// A probe to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) number: u16,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) size: u32,
}

#[derive(Debug)]
struct Target {
    question: Question,
    due: Instant,
    /// Probes of the present round that are on their way.
    open: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Overlay(Echoes),
    Underlay {
        path: Option<Path>,
        /// Rounds with the largest packet that came to nothing.
        tried: u32,
        /// The largest packet of the present round that came through.
        through: u32,
    },
}

#[derive(Debug)]
struct Sent {
    key: Key,
    at: Instant,
    size: u32,
}

/// All probes.
#[derive(Debug, Default)]
pub(super) struct Course {
    targets: BTreeMap<Key, Target>,
    queue: BTreeSet<(Instant, Key)>,
    sent: HashMap<u16, Sent>,
    next: u16,
    changed: BTreeSet<Arc<str>>,
}

impl Course {
    /// Sets what is asked. What is new is asked first; what is asked otherwise than before is asked anew.
    pub(super) fn set(&mut self, now: Instant, wanted: BTreeMap<Key, Question>) {
        let mut anew = BTreeSet::new();
        let gone: Vec<_> = self.targets.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        for key in gone {
            if let Some(target) = self.targets.remove(&key) {
                self.changed.insert(key.0.clone());
                self.queue.remove(&(target.due, key));
            }
        }
        for (key, question) in wanted {
            if self.targets.get(&key).is_some_and(|target| key.1.is_same(&target.question, &question)) {
                continue;
            }
            if let Some(before) = self.targets.remove(&key) {
                self.queue.remove(&(before.due, key.clone()));
                anew.insert(key.clone());
            }
            self.changed.insert(key.0.clone());
            let state = match key.1 {
                Way::Overlay(_) => State::Overlay(Echoes::default()),
                Way::Underlay(_) => State::Underlay { path: None, tried: 0, through: 0 },
            };
            self.queue.insert((now, key.clone()));
            self.targets.insert(key, Target { question, due: now, open: 0, state });
        }
        let targets = &self.targets;
        self.sent.retain(|_, sent| targets.contains_key(&sent.key) && !anew.contains(&sent.key));
    }

    /// The probes that are due, about as many as are allowed: a ladder is sent whole.
    pub(super) fn due(&mut self, now: Instant, allowed: usize) -> Vec<Probe> {
        let mut probes = Vec::new();
        while probes.len() < allowed {
            let Some((due, key)) = self.queue.first().filter(|(due, _)| *due <= now).cloned() else { break };
            self.queue.remove(&(due, key.clone()));
            let Some(target) = self.targets.get_mut(&key) else { continue };
            let destination = key.1.address();
            let small = u32::try_from(echo::smallest(destination)).unwrap_or(u32::MAX) + 36;
            let mtu = target.question.mtu;
            if let State::Underlay { through, .. } = &mut target.state {
                *through = 0;
            }
            let sizes = match &target.state {
                State::Overlay(_) => vec![small],
                State::Underlay { tried: 0 | 1, .. } => vec![mtu, small],
                // Each twice: a lost packet must not make a way smaller than it is.
                State::Underlay { .. } => {
                    LADDER.into_iter().filter(|size| *size < mtu).chain([mtu]).flat_map(|size| [size; 2]).collect()
                }
            };
            for size in sizes {
                self.next = self.next.wrapping_add(1);
                target.open += 1;
                self.sent.insert(self.next, Sent { key: key.clone(), at: now, size });
                probes.push(Probe { number: self.next, source: target.question.source, destination, size });
            }
        }
        probes
    }

    /// Enters an answer.
    pub(super) fn answered(&mut self, now: Instant, number: u16) {
        let Some(sent) = self.sent.remove(&number) else { return };
        let took = now.saturating_duration_since(sent.at);
        let Some(target) = self.targets.get_mut(&sent.key) else { return };
        match &mut target.state {
            State::Overlay(echoes) => echoes.answered(took),
            State::Underlay { through, .. } => *through = (*through).max(sent.size),
        }
        self.one_less(now, sent.key);
    }

    /// Enters that a probe is lost: it was not answered in time, or could not be sent.
    pub(super) fn lost(&mut self, now: Instant, number: u16) {
        let Some(sent) = self.sent.remove(&number) else { return };
        if let Some(Target { state: State::Overlay(echoes), .. }) = self.targets.get_mut(&sent.key) {
            echoes.unanswered();
        }
        self.one_less(now, sent.key);
    }

    /// Enters that what was not answered is lost.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |sent: &Sent| now.saturating_duration_since(sent.at) >= LOST_AFTER;
        let lost: Vec<_> = self.sent.iter().filter(|(_, sent)| late(sent)).map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.lost(now, number));
    }

    /// A probe has come to its end; with the last one of a round, the round has.
    fn one_less(&mut self, now: Instant, key: Key) {
        let Some(target) = self.targets.get_mut(&key) else { return };
        target.open = target.open.saturating_sub(1);
        if target.open > 0 {
            return;
        }
        let wanted = target.question.mtu;
        let pause = match &mut target.state {
            State::Overlay(echoes) => match echoes.silent_for() {
                1..crate::report::SILENT_AFTER => AGAIN,
                _ => INTERVAL,
            },
            State::Underlay { path, tried, through } if *through >= wanted => {
                *path = Some(Path { largest: wanted, wanted });
                *tried = 0;
                PATH_INTERVAL
            }
            // Who does not answer at all may not want to: that says nothing about the size.
            State::Underlay { path, tried, through: 0 } => {
                (*path, *tried) = (None, 0);
                PATH_INTERVAL
            }
            State::Underlay { tried, .. } if *tried < 2 => {
                *tried += 1;
                AGAIN
            }
            State::Underlay { path, tried, through } => {
                *path = Some(Path { largest: *through, wanted });
                *tried = 0;
                INTERVAL
            }
        };
        // Spread, so that what was begun together does not stay together.
        let pause = if pause == AGAIN { pause } else { spread(pause, &key, target.due) };
        target.due = now + pause;
        self.queue.insert((target.due, key.clone()));
        self.changed.insert(key.0);
    }

    /// The peers of which there is news, each with all that is known of it; `None` for one that is not asked any more.
    pub(super) fn news(&mut self) -> Vec<(Arc<str>, Option<Probed>)> {
        let names = std::mem::take(&mut self.changed);
        names.into_iter().map(|name| (name.clone(), self.probed(&name))).collect()
    }

    fn probed(&self, name: &Arc<str>) -> Option<Probed> {
        let first = Way::Overlay(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let mut found = None;
        for ((_, way), target) in self.targets.range((name.clone(), first)..).take_while(|((of, _), _)| of == name) {
            let probed: &mut Probed = found.get_or_insert_default();
            match &target.state {
                State::Overlay(echoes) => _ = probed.overlay.insert(way.address(), *echoes),
                State::Underlay { path, .. } => probed.path = *path,
            }
        }
        found
    }
}

/// From three quarters of a pause to the whole of it, by what is asked and when.
fn spread(pause: Duration, key: &Key, due: Instant) -> Duration {
    let salt = format!("{due:?}");
    let share = u32::try_from(hash::stable(&[&key.0, &format!("{:?}", key.1), &salt]) % 256).unwrap_or(0);
    pause - pause / 4 * share / 256
}

#[cfg(test)]
mod tests;
