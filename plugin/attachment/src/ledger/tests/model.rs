//! A simple model of a ledger. Every step is done to both, and then they are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use podwire_conf::Range;

use super::scratch::{Scratch, attachment, port, reserve};
use super::steps::{ATTACHMENTS, Damage, Request, Step};
use crate::error::Kind;
use crate::ipam;
use crate::ipam::properties::Design;
use crate::ledger::directory::Ledger;
use crate::ledger::reserve::Wanted;
use crate::names::Attachment;

/// What the model knows of a record.
#[derive(Debug, Clone)]
struct RecordState {
    addresses: Vec<IpAddr>,
    readable: bool,
    attached: bool,
}

/// When an address became free: not before the first, not after the second.
#[derive(Debug, Clone, Copy)]
struct Since(u64, u64);

/// A ledger and the model that it is compared with.
pub(super) struct Model {
    scratch: Scratch,
    ledger: Ledger,
    designs: Vec<Vec<Design>>,
    sets: Vec<Vec<Range>>,
    // The model.
    records: BTreeMap<usize, RecordState>,
    claims: BTreeMap<IpAddr, usize>,
    ports: BTreeMap<u16, usize>,
    clock: u64,
    freed: BTreeMap<IpAddr, Since>,
    /// Whether the order of addresses is guaranteed: nothing was killed, damaged or changed so far.
    ordered: bool,
    /// Free lists as they were earlier.
    older: BTreeMap<PathBuf, Vec<u8>>,
}

/// The files of a ledger, and where its links lead.
type Files = BTreeMap<PathBuf, Vec<u8>>;

impl Model {
    pub(super) fn new(designs: Vec<Vec<Design>>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let scratch = Scratch::new(&format!("properties-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let ledger = scratch.ledger();
        let sets = designs.iter().map(|set| set.iter().map(Design::range).collect()).collect();
        Self {
            scratch,
            ledger,
            designs,
            sets,
            records: BTreeMap::new(),
            claims: BTreeMap::new(),
            ports: BTreeMap::new(),
            clock: 1,
            freed: BTreeMap::new(),
            ordered: true,
            older: BTreeMap::new(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.clock += 1;
        match step {
            Step::Reserve(request) => drop(self.reserve(request)),
            Step::Complete(who) => {
                let record = self.records.get_mut(who).filter(|record| !record.attached);
                assert_eq!(self.ledger.complete(&attachment_of(*who)).is_ok(), record.is_some());
                record.into_iter().for_each(|record| record.attached = true);
            }
            Step::Release(who) => self.release(*who),
            Step::KilledReserve(request, changes) => self.killed_reserve(request, *changes),
            Step::KilledRelease(who, changes) => self.killed_release(*who, *changes),
            Step::Change { set, window } => {
                let set = set % self.sets.len();
                for design in &mut self.designs[set] {
                    design.window = Some(*window);
                }
                self.sets[set] = self.designs[set].iter().map(Design::range).collect();
                self.ordered = false;
            }
            Step::DamageFreeList { set, damage } => self.damage(set % self.sets.len(), damage),
            Step::DamageRecord(who) => {
                if let Some(record) = self.records.get_mut(who) {
                    let (record_path, pending) =
                        (self.ledger.record(&attachment_of(*who)), self.ledger.pending(&attachment_of(*who)));
                    fs::write(if record.attached { record_path } else { pending }, "{\"a").unwrap();
                    record.readable = false;
                }
            }
            Step::Sweep => {
                self.ledger.sweep(&[]).unwrap();
                let damaged: Vec<_> =
                    self.records.iter().filter(|(_, record)| !record.readable).map(|(who, _)| *who).collect();
                damaged.into_iter().for_each(|who| self.forget(who));
                self.ordered = false;
            }
        }
        self.compare();
    }

    /// Compares: the ledger has what the model has, no more and no less.
    fn compare(&self) {
        let claimed: BTreeSet<_> = self.ledger.claimed().unwrap().into_iter().collect();
        assert_eq!(claimed, self.claims.keys().copied().collect());
        for (address, who) in &self.claims {
            assert!(self.ledger.holds(&attachment_of(*who), *address).unwrap(), "{address} is not held by {who}");
        }
        for who in 0..ATTACHMENTS {
            let found = self.ledger.find(&attachment_of(who));
            match self.records.get(&who) {
                None => assert_eq!(found.unwrap(), None),
                Some(record) if !record.readable => drop(found.unwrap_err()),
                Some(expected) => {
                    let (record, attached) = found.unwrap().unwrap();
                    assert_eq!((record.addresses(), attached), (expected.addresses.clone(), expected.attached));
                }
            }
        }
    }

    fn reserve(&mut self, request: &Request) -> Result<(), ()> {
        let near: Vec<Vec<IpAddr>> = self.sets.iter().map(|set| near(set)).collect();
        let all: Vec<IpAddr> = near.iter().flatten().copied().collect();
        let foreign: BTreeSet<IpAddr> = (0..)
            .zip(&all)
            .filter(|(place, _)| request.foreign & (1 << (place % 32)) != 0)
            .map(|(_, one)| *one)
            .collect();
        let requested: Vec<IpAddr> = request.address.map(|place| all[place % all.len()]).into_iter().collect();
        let port = request.port.map(|number| port(None, number));
        let expected = self.expected(request, requested.first(), &foreign);

        let wanted = Wanted { sets: &self.sets, addresses: &requested, ports: port.as_slice(), ..Wanted::default() };
        let mut routed = |address: IpAddr| Ok(foreign.contains(&address));
        let result = self.ledger.reserve(&attachment_of(request.who), &wanted, &mut routed);
        let record = match (result, expected) {
            (Ok(record), Ok(())) => record,
            (Err(error), Err(kind)) if error.kind() == kind => {
                if kind == Kind::RangeFull {
                    // The list was rebuilt, in case it had lost an address, so the order starts over.
                    let free: BTreeSet<_> = self.freed.keys().chain(&all).copied().collect();
                    for address in free.difference(&self.claims.keys().copied().collect()) {
                        let Since(first, _) = self.freed.get(address).copied().unwrap_or(Since(0, 0));
                        self.freed.insert(*address, Since(first, self.clock));
                    }
                }
                return Err(());
            }
            (result, expected) => panic!("{result:?} where {expected:?} was expected"),
        };
        let addresses = record.addresses();
        assert_eq!(addresses.len(), self.sets.len());
        for (set, address) in self.sets.clone().iter().zip(&addresses) {
            let range = ipam::range_of(set, *address);
            assert!(range.is_some_and(|range| range.reserved() != *address), "{address} is not of its set");
            assert!(!self.claims.contains_key(address), "{address} is given twice");
            assert!(!foreign.contains(address), "{address} is in a foreign route");
            match requested.iter().find(|requested| ipam::range_of(set, **requested).is_some()) {
                Some(requested) => assert_eq!(address, requested),
                None => self.check_order(set, *address, &foreign),
            }
        }
        for address in &addresses {
            self.freed.remove(address);
            self.claims.insert(*address, request.who);
        }
        if let Some(port) = request.port {
            self.ports.insert(port, request.who);
        }
        self.records.insert(request.who, RecordState { addresses, readable: true, attached: false });
        Ok(())
    }

    /// What a reservation is expected to return.
    fn expected(&self, request: &Request, requested: Option<&IpAddr>, foreign: &BTreeSet<IpAddr>) -> Result<(), Kind> {
        if let Some(record) = self.records.get(&request.who) {
            return Err(if record.readable { Kind::AlreadyAttached } else { Kind::Damaged });
        }
        let unavailable = |address: &IpAddr| self.claims.contains_key(address) || foreign.contains(address);
        let of = |address: &IpAddr| self.sets.iter().find_map(|set| ipam::range_of(set, *address));
        if requested.is_some_and(|requested| of(requested).is_none_or(|range| range.reserved() == *requested)) {
            return Err(Kind::AddressUnavailable);
        }
        for set in &self.sets {
            if requested.is_some_and(|requested| ipam::range_of(set, *requested).is_some()) {
                if requested.is_some_and(unavailable) {
                    return Err(Kind::AddressUnavailable);
                }
                continue;
            }
            let gives =
                |address: &&IpAddr| ipam::range_of(set, **address).is_some_and(|range| range.reserved() != **address);
            let gone: BTreeSet<_> = self.claims.keys().chain(foreign).filter(gives).collect();
            if ipam::size(set) == gone.len() as u128 {
                return Err(Kind::RangeFull);
            }
        }
        let taken = request.port.and_then(|port| self.ports.get(&port));
        if taken.is_some() { Err(Kind::PortTaken) } else { Ok(()) }
    }

    /// Checks that no other address of the set has been free for longer.
    fn check_order(&mut self, set: &[Range], given: IpAddr, foreign: &BTreeSet<IpAddr>) {
        let of_set = |address: &IpAddr| ipam::range_of(set, *address).is_some();
        let since = |model: &Self, address: &IpAddr| model.freed.get(address).copied().unwrap_or(Since(0, 0));
        let Since(not_before, _) = since(self, &given);
        let mut others: Vec<_> = near(set).into_iter().chain(self.freed.keys().copied()).collect();
        others.retain(|other| of_set(other) && *other != given && !self.claims.contains_key(other));
        for other in others {
            let Since(first, last) = since(self, &other);
            if foreign.contains(&other) {
                // It was skipped and put at the end, or has not been reached.
                self.freed.insert(other, Since(first, self.clock));
            } else if self.ordered && !set.iter().any(|range| range.reserved() == other) {
                assert!(last >= not_before, "{given}, released at {not_before}, before {other}, free since {last}");
            }
        }
    }

    fn release(&mut self, who: usize) {
        self.ledger.release(&attachment_of(who)).unwrap();
        self.forget(who);
    }

    fn forget(&mut self, who: usize) {
        let clock = self.clock;
        let mine: Vec<_> = self.claims.iter().filter(|(_, holder)| **holder == who).map(|(one, _)| *one).collect();
        for address in mine {
            self.claims.remove(&address);
            self.freed.insert(address, Since(clock, clock));
        }
        self.ports.retain(|_, holder| *holder != who);
        self.records.remove(&who);
    }

    fn damage(&mut self, set: usize, damage: &Damage) {
        self.ordered = false;
        let path = self.ledger.free(&ipam::fingerprint(&self.sets[set]));
        let Ok(mut bytes) = fs::read(&path) else { return };
        match damage {
            Damage::Gone => return fs::remove_file(&path).unwrap(),
            Damage::Older => bytes = self.older.entry(path.clone()).or_insert(bytes).clone(),
            Damage::Cut(length) => bytes.truncate(*length),
            Damage::Overwritten(place, other) => {
                let end = (place + other.len()).min(bytes.len());
                let start = (*place).min(end);
                bytes[start..end].copy_from_slice(&other[..end - start]);
            }
        }
        fs::write(&path, bytes).unwrap();
    }

    /// A reservation that was killed. Its order: new free lists, the record, the claims, the port, existing free lists.
    fn killed_reserve(&mut self, request: &Request, changes: usize) {
        let before = self.before();
        if self.reserve(request).is_err() {
            return;
        }
        let record = &self.records[&request.who];
        let lists = || self.sets.iter().map(|set| (self.ledger.free(&ipam::fingerprint(set)), Key::FreeList));
        let mut order: Vec<_> = lists().filter(|(path, _)| !before.files.contains_key(path)).collect();
        order.push((self.ledger.pending(&attachment_of(request.who)), Key::Record(request.who)));
        order.extend(record.addresses.iter().map(|address| (self.ledger.claim(*address), Key::Claim(*address))));
        order.extend(request.port.map(|port| (self.port_file(port), Key::Port(port))));
        order.extend(lists().filter(|(path, _)| before.files.contains_key(path)));
        self.undo_from(changes, before, &order);
    }

    /// A release that was killed. Its order: each address after it was put into its free list, the port, the record.
    fn killed_release(&mut self, who: usize, changes: usize) {
        let before = self.before();
        let Ok(Some((record, attached))) = self.ledger.find(&attachment_of(who)) else { return };
        self.release(who);
        let mut order = Vec::new();
        for held in &record.addresses {
            order.push((self.ledger.free(held.set.as_ref().unwrap()), Key::FreeList));
            order.push((self.ledger.claim(held.address), Key::Claim(held.address)));
        }
        order.extend(record.ports.iter().map(|port| (self.port_file(port.host_port), Key::Port(port.host_port))));
        let place =
            if attached { self.ledger.record(&attachment_of(who)) } else { self.ledger.pending(&attachment_of(who)) };
        order.push((place, Key::Record(who)));
        self.undo_from(changes, before, &order);
    }

    fn before(&self) -> Before {
        let (records, claims, ports) = (self.records.clone(), self.claims.clone(), self.ports.clone());
        Before { files: files(&self.scratch.0), records, claims, ports }
    }

    /// Keeps the first changes and takes the others back, as if they had not been made.
    fn undo_from(&mut self, changes: usize, before: Before, order: &[(PathBuf, Key)]) {
        self.ordered = false;
        fs::write(self.ledger.temporary(), "half").unwrap();
        let after = files(&self.scratch.0);
        let changed: Vec<_> = order.iter().filter(|(path, _)| before.files.get(path) != after.get(path)).collect();
        for (place, (path, key)) in changed.into_iter().enumerate().skip(changes) {
            let _ = fs::remove_file(path);
            match (before.files.get(path), after.get(path)) {
                (Some(content), _) if path.starts_with(self.ledger.directory.join("claims")) => {
                    symlink(std::str::from_utf8(content).unwrap(), path).unwrap();
                }
                // Intervals are written before the header that speaks of them.
                (Some(content), Some(after)) if matches!(key, Key::FreeList) && place == changes => {
                    fs::write(path, [&content[..40.min(content.len())], after.get(40..).unwrap_or_default()].concat())
                        .unwrap();
                }
                (Some(content), _) => fs::write(path, content).unwrap(),
                (None, _) => {}
            }
            match key {
                Key::FreeList => {}
                Key::Record(who) => restore(&mut self.records, &before.records, *who),
                Key::Port(port) => restore(&mut self.ports, &before.ports, *port),
                Key::Claim(address) => {
                    restore(&mut self.claims, &before.claims, *address);
                    self.freed.insert(*address, Since(0, self.clock));
                }
            }
        }
    }

    fn port_file(&self, port: u16) -> PathBuf {
        self.scratch.0.join(".ports").join(format!("tcp-{port}"))
    }

    /// Releases everything, and checks that every address can then be given.
    pub(super) fn end(mut self) {
        for who in 0..ATTACHMENTS {
            self.release(who);
        }
        self.compare();
        assert_eq!(self.scratch.held(), [""; 0]);
        for (place, set) in self.sets.iter().enumerate() {
            let (size, mut given) = (ipam::size(set), BTreeSet::new());
            for number in 0..size.min(25) {
                let name = format!("end {place} {number}");
                let address = reserve(&self.ledger, &name, std::slice::from_ref(set)).unwrap()[0];
                assert!(given.insert(address), "{address} is given twice");
                assert!(ipam::range_of(set, address).is_some_and(|range| range.reserved() != address), "{address}");
            }
            if size <= 25 {
                let failure = reserve(&self.ledger, "one too many", std::slice::from_ref(set)).unwrap_err();
                assert_eq!(failure.kind(), Kind::RangeFull);
            }
        }
    }
}

/// What a change of the ledger was about.
#[derive(Debug, Clone, Copy)]
enum Key {
    Record(usize),
    Claim(IpAddr),
    Port(u16),
    FreeList,
}

/// A ledger and its model at some time.
struct Before {
    files: Files,
    records: BTreeMap<usize, RecordState>,
    claims: BTreeMap<IpAddr, usize>,
    ports: BTreeMap<u16, usize>,
}

fn restore<K: Ord, V: Clone>(now: &mut BTreeMap<K, V>, before: &BTreeMap<K, V>, key: K) {
    match before.get(&key) {
        Some(value) => drop(now.insert(key, value.clone())),
        None => drop(now.remove(&key)),
    }
}

fn files(directory: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match fs::read_link(&path) {
            Ok(target) => drop(files.insert(path, target.into_os_string().into_encoded_bytes())),
            Err(_) if path.is_dir() => files.extend(self::files(&path)),
            Err(_) => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

fn attachment_of(who: usize) -> Attachment {
    attachment(&format!("c{who}"))
}

/// Addresses worth requesting and worth routing: the first and the last of each range, and one beside them.
fn near(set: &[Range]) -> Vec<IpAddr> {
    let ends = |range: &Range| {
        let (first, last) = (ipam::bits(range.first()), ipam::bits(range.last()));
        let middle = first.saturating_add(8).min(last);
        let numbers: BTreeSet<_> = (first - 1..=middle).chain(last.saturating_sub(4).max(first)..=last).collect();
        numbers.into_iter().map(|number| ipam::address(set, number)).collect::<Vec<_>>()
    };
    set.iter().flat_map(ends).collect()
}
