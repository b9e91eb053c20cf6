//! A ledger against a simple model of one, through whatever may happen to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::ipam::properties::{Design, designs, window};

/// Attachments that there are, and host ports that they want.
const ATTACHMENTS: usize = 7;
const PORTS: u16 = 3;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Reserve(Wish),
    Attached(usize),
    Release(usize),
    /// An ADD or a DEL was killed when it had changed so many things.
    KilledReserve(Wish, usize),
    KilledRelease(usize, usize),
    /// The network has other ranges from now on.
    Change {
        set: usize,
        window: (u64, u64),
    },
    DamageQueue {
        set: usize,
        damage: Damage,
    },
    DamageRecord(usize),
    Sweep,
}

/// What an ADD wants, and what strangers have.
#[derive(Debug, Clone)]
struct Wish {
    who: usize,
    /// One of the addresses that [`near`] lists.
    address: Option<usize>,
    port: Option<u16>,
    /// Which of the addresses that [`near`] lists a stranger routes, by bits.
    strangers: u32,
}

#[derive(Debug, Clone)]
enum Damage {
    Gone,
    Older,
    Cut(usize),
    Overwritten(usize, Vec<u8>),
}

/// What a record says, as far as it can be read.
#[derive(Debug, Clone)]
struct Noted {
    addresses: Vec<IpAddr>,
    readable: bool,
    attached: bool,
}

/// Since when an address is free: not before the first, not after the second.
#[derive(Debug, Clone, Copy)]
struct Since(u64, u64);

struct World {
    scratch: Scratch,
    ledger: Ledger,
    designs: Vec<Vec<Design>>,
    sets: Vec<Vec<Range>>,
    // The model.
    records: BTreeMap<usize, Noted>,
    claims: BTreeMap<IpAddr, usize>,
    ports: BTreeMap<u16, usize>,
    clock: u64,
    freed: BTreeMap<IpAddr, Since>,
    /// Whether the order is promised: nothing was killed, damaged or changed so far.
    orderly: bool,
    /// Queues as they were at some time.
    older: BTreeMap<PathBuf, Vec<u8>>,
}

/// The files of a ledger, and where its links lead.
type Files = BTreeMap<PathBuf, Vec<u8>>;

impl World {
    fn new(designs: Vec<Vec<Design>>) -> Self {
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
            orderly: true,
            older: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        self.clock += 1;
        match step {
            Step::Reserve(wish) => drop(self.reserve(wish)),
            Step::Attached(who) => {
                let record = self.records.get_mut(who).filter(|record| !record.attached);
                assert_eq!(self.ledger.attached(&whose(*who)).is_ok(), record.is_some());
                record.into_iter().for_each(|record| record.attached = true);
            }
            Step::Release(who) => self.release(*who),
            Step::KilledReserve(wish, changes) => self.killed_reserve(wish, *changes),
            Step::KilledRelease(who, changes) => self.killed_release(*who, *changes),
            Step::Change { set, window } => {
                let set = set % self.sets.len();
                for design in &mut self.designs[set] {
                    design.window = Some(*window);
                }
                self.sets[set] = self.designs[set].iter().map(Design::range).collect();
                self.orderly = false;
            }
            Step::DamageQueue { set, damage } => self.damage(set % self.sets.len(), damage),
            Step::DamageRecord(who) => {
                if let Some(record) = self.records.get_mut(who) {
                    let (record_path, pending) = (self.ledger.record(&whose(*who)), self.ledger.pending(&whose(*who)));
                    fs::write(if record.attached { record_path } else { pending }, "{\"a").unwrap();
                    record.readable = false;
                }
            }
            Step::Sweep => {
                self.ledger.sweep(&[]).unwrap();
                let damaged: Vec<_> =
                    self.records.iter().filter(|(_, record)| !record.readable).map(|(who, _)| *who).collect();
                damaged.into_iter().for_each(|who| self.forget(who));
                self.orderly = false;
            }
        }
        self.compare();
    }

    /// The ledger has what the model has, no more and no less.
    fn compare(&self) {
        let claimed: BTreeSet<_> = self.ledger.claimed().unwrap().into_iter().collect();
        assert_eq!(claimed, self.claims.keys().copied().collect());
        for (address, who) in &self.claims {
            assert!(self.ledger.holds(&whose(*who), *address).unwrap(), "{address} is not held by {who}");
        }
        for who in 0..ATTACHMENTS {
            let found = self.ledger.find(&whose(who));
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

    fn reserve(&mut self, wish: &Wish) -> Result<(), ()> {
        let near: Vec<Vec<IpAddr>> = self.sets.iter().map(|set| near(set)).collect();
        let all: Vec<IpAddr> = near.iter().flatten().copied().collect();
        let strangers: BTreeSet<IpAddr> = (0..)
            .zip(&all)
            .filter(|(place, _)| wish.strangers & (1 << (place % 32)) != 0)
            .map(|(_, one)| *one)
            .collect();
        let wished: Vec<IpAddr> = wish.address.map(|place| all[place % all.len()]).into_iter().collect();
        let port = wish.port.map(|number| super::port(None, number));
        let expected = self.expected(wish, wished.first(), &strangers);

        let wanted = Wanted { sets: &self.sets, addresses: &wished, ports: port.as_slice(), ..Wanted::default() };
        let mut routed = |address: IpAddr| Ok(strangers.contains(&address));
        let result = self.ledger.reserve(&whose(wish.who), &wanted, &mut routed);
        let record = match (result, expected) {
            (Ok(record), Ok(())) => record,
            (Err(error), Err(kind)) if error.kind() == kind => {
                if kind == Kind::RangeFull {
                    // The queue was made anew, in case that it had lost an address: the order begins anew as well.
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
            assert!(!strangers.contains(address), "{address} is a stranger's");
            match wished.iter().find(|wished| ipam::range_of(set, **wished).is_some()) {
                Some(wished) => assert_eq!(address, wished),
                None => self.check_turn(set, *address, &strangers),
            }
        }
        for address in &addresses {
            self.freed.remove(address);
            self.claims.insert(*address, wish.who);
        }
        if let Some(port) = wish.port {
            self.ports.insert(port, wish.who);
        }
        self.records.insert(wish.who, Noted { addresses, readable: true, attached: false });
        Ok(())
    }

    /// What an ADD is answered.
    fn expected(&self, wish: &Wish, wished: Option<&IpAddr>, strangers: &BTreeSet<IpAddr>) -> Result<(), Kind> {
        if let Some(record) = self.records.get(&wish.who) {
            return Err(if record.readable { Kind::AlreadyAttached } else { Kind::Damaged });
        }
        let in_vain = |address: &IpAddr| self.claims.contains_key(address) || strangers.contains(address);
        let of = |address: &IpAddr| self.sets.iter().find_map(|set| ipam::range_of(set, *address));
        if wished.is_some_and(|wished| of(wished).is_none_or(|range| range.reserved() == *wished)) {
            return Err(Kind::AddressUnavailable);
        }
        for set in &self.sets {
            if wished.is_some_and(|wished| ipam::range_of(set, *wished).is_some()) {
                if wished.is_some_and(in_vain) {
                    return Err(Kind::AddressUnavailable);
                }
                continue;
            }
            let gives =
                |address: &&IpAddr| ipam::range_of(set, **address).is_some_and(|range| range.reserved() != **address);
            let gone: BTreeSet<_> = self.claims.keys().chain(strangers).filter(gives).collect();
            if ipam::size(set) == gone.len() as u128 {
                return Err(Kind::RangeFull);
            }
        }
        let taken = wish.port.and_then(|port| self.ports.get(&port));
        if taken.is_some() { Err(Kind::PortTaken) } else { Ok(()) }
    }

    /// No other address of the set has certainly been free for longer.
    fn check_turn(&mut self, set: &[Range], given: IpAddr, strangers: &BTreeSet<IpAddr>) {
        let of_set = |address: &IpAddr| ipam::range_of(set, *address).is_some();
        let since = |world: &Self, address: &IpAddr| world.freed.get(address).copied().unwrap_or(Since(0, 0));
        let Since(not_before, _) = since(self, &given);
        let mut others: Vec<_> = near(set).into_iter().chain(self.freed.keys().copied()).collect();
        others.retain(|other| of_set(other) && *other != given && !self.claims.contains_key(other));
        for other in others {
            let Since(first, last) = since(self, &other);
            if strangers.contains(&other) {
                // It was passed over and put at the end, or its turn had not come.
                self.freed.insert(other, Since(first, self.clock));
            } else if self.orderly && !set.iter().any(|range| range.reserved() == other) {
                assert!(last >= not_before, "{given}, released at {not_before}, before {other}, free since {last}");
            }
        }
    }

    fn release(&mut self, who: usize) {
        self.ledger.release(&whose(who)).unwrap();
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
        self.orderly = false;
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

    /// In the order in which ADD makes them: new queues, the record, the claims, the port, queues that were there.
    fn killed_reserve(&mut self, wish: &Wish, changes: usize) {
        let before = self.before();
        if self.reserve(wish).is_err() {
            return;
        }
        let record = &self.records[&wish.who];
        let queues = || self.sets.iter().map(|set| (self.ledger.free(&ipam::fingerprint(set)), Key::Queue));
        let mut order: Vec<_> = queues().filter(|(path, _)| !before.files.contains_key(path)).collect();
        order.push((self.ledger.pending(&whose(wish.who)), Key::Record(wish.who)));
        order.extend(record.addresses.iter().map(|address| (self.ledger.claim(*address), Key::Claim(*address))));
        order.extend(wish.port.map(|port| (self.port_file(port), Key::Port(port))));
        order.extend(queues().filter(|(path, _)| before.files.contains_key(path)));
        self.undo_from(changes, before, &order);
    }

    /// In the order in which DEL takes things away: each address after it was put into its queue, the port, the record.
    fn killed_release(&mut self, who: usize, changes: usize) {
        let before = self.before();
        let Ok(Some((record, attached))) = self.ledger.find(&whose(who)) else { return };
        self.release(who);
        let mut order = Vec::new();
        for held in &record.addresses {
            order.push((self.ledger.free(held.set.as_ref().unwrap()), Key::Queue));
            order.push((self.ledger.claim(held.address), Key::Claim(held.address)));
        }
        order.extend(record.ports.iter().map(|port| (self.port_file(port.host_port), Key::Port(port.host_port))));
        let place = if attached { self.ledger.record(&whose(who)) } else { self.ledger.pending(&whose(who)) };
        order.push((place, Key::Record(who)));
        self.undo_from(changes, before, &order);
    }

    fn before(&self) -> Before {
        let (records, claims, ports) = (self.records.clone(), self.claims.clone(), self.ports.clone());
        Before { files: files(&self.scratch.0), records, claims, ports }
    }

    /// Leaves the first changes as they are and takes the others back, as if they had not been made yet.
    fn undo_from(&mut self, changes: usize, before: Before, order: &[(PathBuf, Key)]) {
        self.orderly = false;
        fs::write(self.ledger.beside(), "half").unwrap();
        let after = files(&self.scratch.0);
        let changed: Vec<_> = order.iter().filter(|(path, _)| before.files.get(path) != after.get(path)).collect();
        for (place, (path, key)) in changed.into_iter().enumerate().skip(changes) {
            let _ = fs::remove_file(path);
            match (before.files.get(path), after.get(path)) {
                (Some(content), _) if path.starts_with(self.ledger.directory.join("claims")) => {
                    symlink(std::str::from_utf8(content).unwrap(), path).unwrap();
                }
                // Intervals are written before the header that speaks of them.
                (Some(content), Some(after)) if matches!(key, Key::Queue) && place == changes => {
                    fs::write(path, [&content[..40.min(content.len())], after.get(40..).unwrap_or_default()].concat())
                        .unwrap();
                }
                (Some(content), _) => fs::write(path, content).unwrap(),
                (None, _) => {}
            }
            match key {
                Key::Queue => {}
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

    /// When nobody holds anything any more, everything can be given.
    fn end(mut self) {
        for who in 0..ATTACHMENTS {
            self.release(who);
        }
        self.compare();
        assert_eq!(self.scratch.held(), [""; 0]);
        for (place, set) in self.sets.iter().enumerate() {
            let (size, mut given) = (ipam::size(set), BTreeSet::new());
            for number in 0..size.min(25) {
                let name = format!("end {place} {number}");
                let address = super::reserve(&self.ledger, &name, std::slice::from_ref(set)).unwrap()[0];
                assert!(given.insert(address), "{address} is given twice");
                assert!(ipam::range_of(set, address).is_some_and(|range| range.reserved() != address), "{address}");
            }
            if size <= 25 {
                let failure = super::reserve(&self.ledger, "one too many", std::slice::from_ref(set)).unwrap_err();
                assert_eq!(failure.kind(), Kind::RangeFull);
            }
        }
    }
}

/// What is where a killed process was about to do something else.
#[derive(Debug, Clone, Copy)]
enum Key {
    Record(usize),
    Claim(IpAddr),
    Port(u16),
    Queue,
}

/// A ledger and its model at some time.
struct Before {
    files: Files,
    records: BTreeMap<usize, Noted>,
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

fn whose(who: usize) -> Attachment {
    attachment(&format!("c{who}"))
}

/// Addresses worth wishing for and worth routing: the first and the last of each range, and one beside them.
fn near(set: &[Range]) -> Vec<IpAddr> {
    let ends = |range: &Range| {
        let (first, last) = (ipam::bits(range.first()), ipam::bits(range.last()));
        let middle = first.saturating_add(8).min(last);
        let numbers: BTreeSet<_> = (first - 1..=middle).chain(last.saturating_sub(4).max(first)..=last).collect();
        numbers.into_iter().map(|number| ipam::address(set, number)).collect::<Vec<_>>()
    };
    set.iter().flat_map(ends).collect()
}

fn wish() -> impl Strategy<Value = Wish> {
    let address = prop_oneof![3 => Just(None), 1 => (0..64_usize).prop_map(Some)];
    let port = prop_oneof![3 => Just(None), 1 => (0..PORTS).prop_map(|number| Some(8000 + number))];
    let strangers = prop_oneof![3 => Just(0), 2 => any::<u32>(), 1 => Just(u32::MAX)];
    (0..ATTACHMENTS, address, port, strangers).prop_map(|(who, address, port, strangers)| Wish {
        who,
        address,
        port,
        strangers,
    })
}

/// What happens where nothing goes wrong.
fn ordinary() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => wish().prop_map(Step::Reserve),
        1 => (0..ATTACHMENTS).prop_map(Step::Attached),
        3 => (0..ATTACHMENTS).prop_map(Step::Release),
    ]
}

/// What goes wrong now and then.
fn mishap() -> impl Strategy<Value = Step> {
    let damage = prop_oneof![
        Just(Damage::Gone),
        Just(Damage::Older),
        (0..200_usize).prop_map(Damage::Cut),
        (0..200_usize, prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 1..40))
            .prop_map(|(place, bytes)| Damage::Overwritten(place, bytes)),
    ];
    prop_oneof![
        2 => (wish(), 0..9_usize).prop_map(|(wish, changes)| Step::KilledReserve(wish, changes)),
        2 => (0..ATTACHMENTS, 0..9_usize).prop_map(|(who, changes)| Step::KilledRelease(who, changes)),
        1 => (any::<usize>(), window()).prop_map(|(set, window)| Step::Change { set, window }),
        2 => (any::<usize>(), damage).prop_map(|(set, damage)| Step::DamageQueue { set, damage }),
        1 => (0..ATTACHMENTS).prop_map(Step::DamageRecord),
        1 => Just(Step::Sweep),
    ]
}

/// A network of one or two families.
fn network() -> impl Strategy<Value = Vec<Vec<Design>>> {
    prop_oneof![
        designs(true, 0).prop_map(|set| vec![set]),
        designs(false, 0).prop_map(|set| vec![set]),
        (designs(true, 0), designs(false, 0)).prop_map(|(one, other)| vec![one, other]),
        (designs(false, 0), designs(false, 4)).prop_map(|(one, other)| vec![one, other]),
    ]
}

fn play(designs: Vec<Vec<Design>>, steps: &[Step]) {
    let mut world = World::new(designs);
    steps.iter().for_each(|step| world.step(step));
    world.end();
}

/// A quarter of the usual number of cases, since they work on files. `PROPTEST_CASES` asks for others.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(4), failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn addresses_are_given_once_and_in_turn_and_none_is_lost(
        designs in network(),
        steps in prop::collection::vec(ordinary(), 1..60),
    ) {
        play(designs, &steps);
    }

    #[test]
    fn addresses_are_given_once_and_none_is_lost_whatever_goes_wrong(
        designs in network(),
        steps in prop::collection::vec(prop_oneof![3 => ordinary(), 1 => mishap()], 1..60),
    ) {
        play(designs, &steps);
    }
}
