//! Who holds what: the only module that knows the state directory.
//!
//! ```text
//! /run/podwire/<network>/lock                  held while anything below is read or written
//!                       /boot                  id of the boot that all of it belongs to: a reboot frees everything
//!                       /pending/<hash>        record of an ADD that is under way, or was killed
//!                       /attachments/<hash>    record of an attachment: what it holds, as JSON
//!                       /claims/<address>      a link to the record of its holder
//!                       /free/<hash>           the free addresses of a set of ranges, in the order they are given
//!                       /turns/<hash>          locked for the time of an ADD or a DEL of that attachment
//! /run/podwire/.ports/tcp-8080                 who holds a host port, for all networks
//! ```
//! Records and claims are the truth; `free` makes the choice cheap, and is made anew from the claims when it is in doubt.
//! A record is written before its claims and removed after them, so whatever a killed process left behind is found by its
//! record. Records are written beside their place and renamed; a claim is made by one system call.

mod disk;
mod free;
mod ports;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use nix::fcntl::Flock;
use podwire_conf::{Bandwidth, Port, Range, hash};
use podwire_kernel::Mac;
use serde::{Deserialize, Serialize};

use crate::cni::{Attachment, Code, Failure};
use crate::ipam;
use disk::failed;
use free::Free;
use ports::{Holder, Ports};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The directories of a ledger.
const DIRECTORIES: [&str; 5] = ["attachments", "pending", "claims", "free", "turns"];

/// Where records are, in the order in which they move on: who looks in this order misses none, and may see one twice.
const PLACES: [&str; 2] = ["pending", "attachments"];

/// The ledger of one network.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: PathBuf,
    directory: PathBuf,
    network: String,
}

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub attachment: Attachment,
    /// The addresses it holds.
    pub addresses: Vec<Held>,
    /// The ports of the node that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Where what it sends does not leave under the node's address; empty where nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masquerade: Vec<IpNetwork>,
    /// How fast it may send and receive.
    #[serde(default, skip_serializing_if = "is_unlimited")]
    pub bandwidth: Bandwidth,
    /// The link-layer address of its interface in the pod. Records of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "mac_as_text")]
    pub mac: Option<Mac>,
    /// Whether the container is a sandbox that the runtime's CRI knows.
    #[serde(default, skip_serializing_if = "is_not")]
    pub sandbox: bool,
    /// Where rules were made for it, when it is not the first interface of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
}

/// The pod that has rules for an interface: rules do not go when the interface does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The network namespace, by device and inode number: a path may come to name another one.
    pub namespace: (u64, u64),
    /// Index of the interface.
    pub device: u32,
}

fn is_not(flag: &bool) -> bool {
    !flag
}

fn is_unlimited(bandwidth: &Bandwidth) -> bool {
    *bandwidth == Bandwidth::default()
}

/// A link-layer address as humans write it.
mod mac_as_text {
    use podwire_kernel::Mac;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's own signature")]
    pub(super) fn serialize<S: Serializer>(mac: &Option<Mac>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&mac.map(|mac| mac.to_string()).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mac>, D::Error> {
        String::deserialize(deserializer).map(|text| Mac::parse(&text))
    }
}

/// An address that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// The queue of free addresses that it goes back to; none where it is another plugin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

impl Record {
    /// The addresses, in the order of the sets.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|held| held.address).collect()
    }
}

/// What an attachment is to hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// One address out of each set.
    pub sets: &'a [Vec<Range>],
    /// Addresses that it is to be.
    pub addresses: &'a [IpAddr],
    /// Addresses that another plugin has given, in place of the sets.
    pub given: Option<Vec<IpAddr>>,
    /// Ports of the node.
    pub ports: &'a [Port],
    /// Where it is not masqueraded; empty where it never is.
    pub masquerade: Vec<IpNetwork>,
    /// Its limits.
    pub bandwidth: Bandwidth,
    /// The link-layer address of its interface.
    pub mac: Option<Mac>,
    /// Whether it is of a sandbox that the runtime's CRI knows.
    pub sandbox: bool,
}

/// Whether somebody routes an address already: then it is not given, whatever the ledger says.
pub type Routed<'a> = &'a mut dyn FnMut(IpAddr) -> Result<bool, Failure>;

impl Ledger {
    /// The ledger of a network, made where there is none yet, emptied where it belongs to an earlier boot.
    ///
    /// # Errors
    /// The file that could not be made or read.
    pub fn open(state: &Path, network: &str) -> Result<Self, Failure> {
        let ledger = Self { state: state.into(), directory: state.join(network), network: network.into() };
        if ledger.is_of_this_boot()? {
            return Ok(ledger);
        }
        for name in DIRECTORIES {
            let directory = ledger.directory.join(name);
            fs::create_dir_all(&directory).map_err(|error| failed("create", &directory, &error))?;
        }
        let _lock = ledger.lock()?;
        ledger.forget_earlier_boot()?;
        Ok(ledger)
    }

    /// The ledger of a network, where there is one.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn existing(state: &Path, network: &str) -> Result<Option<Self>, Failure> {
        let boot = state.join(network).join("boot");
        if disk::exists(&boot)? { Self::open(state, network).map(Some) } else { Ok(None) }
    }

    /// The networks of this node that have a ledger.
    ///
    /// # Errors
    /// When the state directory cannot be listed.
    pub fn networks(state: &Path) -> Result<Vec<String>, Failure> {
        let mut names = disk::list(state)?;
        names.retain(|name| state.join(name).join("boot").exists());
        Ok(names)
    }

    /// The ledger of a network, where there is one of this boot. Nothing is written and no lock waited for.
    ///
    /// # Errors
    /// When the file that says so cannot be read.
    pub fn of_this_boot(state: &Path, network: &str) -> Result<Option<Self>, Failure> {
        let ledger = Self { state: state.into(), directory: state.join(network), network: network.into() };
        Ok(ledger.is_of_this_boot()?.then_some(ledger))
    }

    /// The ledgers of all networks of this node that are of this boot. Nothing is written and no lock waited for.
    ///
    /// # Errors
    /// When the state directory, or the file that says so, cannot be read.
    pub fn all_of_this_boot(state: &Path) -> Result<Vec<Self>, Failure> {
        let mut ledgers = Vec::new();
        for network in Self::networks(state)? {
            ledgers.extend(Self::of_this_boot(state, &network)?);
        }
        Ok(ledgers)
    }

    /// Whether a ledger could be made or written below a directory, which need not be there yet: nothing is written.
    ///
    /// # Errors
    /// The directory that does not allow it.
    pub fn could_be_written(state: &Path, network: &str) -> Result<(), Failure> {
        let wanted = state.join(network);
        let there = wanted.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        nix::unistd::access(there, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)
            .map_err(|errno| failed("write to", there, &errno.into()))
    }

    /// The record of an attachment, and whether the ADD that made it went to its end.
    ///
    /// # Errors
    /// When there is one that cannot be read, or that belongs to another attachment of the same hash.
    pub fn find(&self, attachment: &Attachment) -> Result<Option<(Record, bool)>, Failure> {
        let name = hash_name(attachment);
        for (place, attached) in [("attachments", true), ("pending", false)] {
            let path = self.directory.join(place).join(&name);
            let Some(bytes) = disk::read(&path)? else { continue };
            let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(Code::Ledger, format!("read {}: {error}", path.display()), "DEL removes it, by its claims")
            })?;
            if record.attachment == *attachment {
                return Ok(Some((record, attached)));
            }
            let details = format!("it is the record of {:?}", record.attachment);
            return Err(Failure::new(Code::Ledger, format!("{} is not of {attachment:?}", path.display()), details));
        }
        Ok(None)
    }

    /// The attachments that have a record which can be read, finished or not, and the names of records that cannot.
    ///
    /// # Errors
    /// When a directory or a file cannot be read.
    pub fn records(&self) -> Result<(Vec<Record>, Vec<String>), Failure> {
        self.records_in(&PLACES)
    }

    /// The attachments whose ADD is under way, or was killed.
    ///
    /// # Errors
    /// As [`Ledger::records`].
    pub fn unfinished(&self) -> Result<Vec<Record>, Failure> {
        Ok(self.records_in(&["pending"])?.0)
    }

    /// The attachments whose ADD went to its end.
    ///
    /// # Errors
    /// As [`Ledger::records`].
    pub fn attachments(&self) -> Result<Vec<Record>, Failure> {
        Ok(self.records_in(&["attachments"])?.0)
    }

    /// A record with those of its addresses that are its own: somebody else may have got one whose ADD was killed in
    /// between.
    ///
    /// # Errors
    /// When a claim cannot be read.
    pub fn with_own_addresses(&self, mut record: Record) -> Result<Record, Failure> {
        let mut addresses = Vec::new();
        for held in record.addresses {
            if held.set.is_none() || self.holds(&record.attachment, held.address)? {
                addresses.push(held);
            }
        }
        record.addresses = addresses;
        Ok(record)
    }

    fn records_in(&self, places: &[&str]) -> Result<(Vec<Record>, Vec<String>), Failure> {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for place in places {
            let directory = self.directory.join(place);
            for name in disk::list(&directory)? {
                let Some(bytes) = disk::read(&directory.join(&name))? else { continue };
                match serde_json::from_slice(&bytes) {
                    Ok(record) => records.push(record),
                    Err(_) => damaged.push(name),
                }
            }
        }
        Ok((records, damaged))
    }

    /// Reserves what an attachment that has no record is to hold.
    ///
    /// # Errors
    /// When it has one, when a set has no free address or a wished one cannot be had, when a host port is taken, when a
    /// file cannot be written; then nothing is held.
    pub fn reserve(&self, attachment: &Attachment, wanted: &Wanted<'_>, routed: Routed<'_>) -> Result<Record, Failure> {
        let _lock = self.lock()?;
        if let Some((record, _)) = self.find(attachment)? {
            let details = format!("it holds {:?}: DEL comes before another ADD", record.addresses());
            return Err(Failure::new(Code::AlreadyAttached, self.sentence(attachment, "is attached already"), details));
        }
        let mut record = Record {
            attachment: attachment.clone(),
            addresses: Vec::new(),
            ports: wanted.ports.to_vec(),
            masquerade: wanted.masquerade.clone(),
            bandwidth: wanted.bandwidth,
            mac: wanted.mac,
            sandbox: wanted.sandbox,
            beside: None,
        };
        let mut queues = Vec::new();
        match &wanted.given {
            Some(given) => {
                record.addresses = given.iter().map(|address| Held { address: *address, set: None }).collect();
            }
            None => {
                let wishes = self.wishes(wanted)?;
                for (set, wish) in wanted.sets.iter().zip(wishes) {
                    let (address, queue) = match wish {
                        Some(address) => (address, self.take_wished(set, address, routed)?),
                        None => self.take_next(set, routed)?,
                    };
                    record.addresses.push(Held { address, set: Some(ipam::fingerprint(set)) });
                    queues.push(queue);
                }
            }
        }
        let write = || -> Result<(), Failure> {
            disk::replace(&self.pending(attachment), &self.beside(), &json(&record)?)?;
            let holder = format!("../attachments/{}", hash_name(attachment));
            for held in record.addresses.iter().filter(|held| held.set.is_some()) {
                let claim = self.claim(held.address);
                symlink(&holder, &claim).map_err(|error| failed("claim", &claim, &error))?;
            }
            Ports::of(&self.state).claim(&self.holder(attachment), &record.ports, &record.addresses())?;
            queues.into_iter().try_for_each(|queue| queue.commit(&self.beside()))
        };
        write().inspect_err(|_| {
            // No queue was told that its address is taken, so none has to be told that it is free.
            let unqueued =
                record.addresses.iter().map(|held| Held { set: held.set.as_ref().map(|_| String::new()), ..*held });
            let undone = Record { addresses: unqueued.collect(), ..record.clone() };
            self.erase(&undone).unwrap_or_else(|error| eprintln!("podwire: undo: {error}"));
        })?;
        Ok(record)
    }

    /// Which set each wished address is of.
    fn wishes(&self, wanted: &Wanted<'_>) -> Result<Vec<Option<IpAddr>>, Failure> {
        let mut wishes = vec![None; wanted.sets.len()];
        for address in wanted.addresses {
            let refuse = |why: String| {
                let message = format!("failed to allocate all requested IPs: {address}: {why}");
                Err(Failure::new(Code::AddressUnavailable, message, ""))
            };
            let of = |set: &Vec<Range>| ipam::range_of(set, *address).map(|range| range.reserved() == *address);
            match wanted.sets.iter().map(of).enumerate().find_map(|(place, of)| Some((place, of?))) {
                None => {
                    let sets: Vec<_> = wanted.sets.iter().map(|set| ipam::describe(set)).collect();
                    return refuse(format!(
                        "it is in none of the ranges of network {}: {}",
                        self.network,
                        sets.join("; ")
                    ));
                }
                Some((_, true)) => return refuse("requested ip is subnet's gateway".into()),
                Some((place, false)) => match wishes[place].replace(*address) {
                    Some(other) if other != *address => {
                        return refuse(format!("{other} is requested too, and one address is given out of each set"));
                    }
                    _ => {}
                },
            }
        }
        Ok(wishes)
    }

    fn take_wished(&self, set: &[Range], address: IpAddr, routed: Routed<'_>) -> Result<Free, Failure> {
        let refuse = |why: String| {
            let message = format!("failed to allocate all requested IPs: {address}: {why}");
            Err(Failure::new(Code::AddressUnavailable, message, ""))
        };
        if let Some(holder) = self.holder_of(address)? {
            return refuse(format!("it is held by {holder}"));
        }
        if routed(address)? {
            return refuse("somebody routes it already".into());
        }
        let mut queue = self.queue(set, false)?;
        queue.take(ipam::bits(address));
        Ok(queue)
    }

    fn take_next(&self, set: &[Range], routed: Routed<'_>) -> Result<(IpAddr, Free), Failure> {
        let mut queue = self.queue(set, false)?;
        let mut anew = false;
        let mut passed = Vec::new();
        let gives = |first: u128| {
            let address = ipam::address(set, first);
            ipam::range_of(set, address).is_some_and(|range| range.reserved() != address)
        };
        loop {
            let first = match queue.first() {
                Some(first) if gives(first) && !passed.contains(&first) => first,
                // Nothing left but what strangers route, or nothing at all: an address may have got lost. Or the queue
                // is damaged: no address of another set was ever put there.
                _ if !anew => {
                    anew = true;
                    queue = self.queue(set, true)?;
                    passed.clear();
                    continue;
                }
                _ => {
                    let (name, size) = (ipam::describe(set), ipam::size(set));
                    let message = format!("no IP addresses available in range set: {name}");
                    let strangers = if passed.is_empty() {
                        String::new()
                    } else {
                        format!(", {} of them by strangers", passed.len())
                    };
                    let details = format!("all {size} are held{strangers}; see {}", self.directory.display());
                    return Err(Failure::new(Code::Exhausted, message, details));
                }
            };
            let address = ipam::address(set, first);
            queue.take_first()?;
            if self.claim(address).symlink_metadata().is_ok() {
                // Taken by wish, or by an ADD that was killed before it said so: it comes back when it is released.
                continue;
            }
            if routed(address)? {
                passed.push(first);
                queue.put(first)?;
                continue;
            }
            queue.given(first);
            return Ok((address, queue));
        }
    }

    /// The free addresses of a set; made anew when there is no such queue yet, or when that is wanted.
    fn queue(&self, set: &[Range], anew: bool) -> Result<Free, Failure> {
        let path = self.free(&ipam::fingerprint(set));
        let found = Free::open(&path)?;
        let last = found.as_ref().map_or(0, Free::last);
        match found {
            Some(queue) if !anew => Ok(queue),
            _ => Free::create(&path, &self.beside(), &ipam::free(set, &self.claimed()?, last), last),
        }
    }

    /// Writes the record of an ADD that is under way again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, record: &Record) -> Result<(), Failure> {
        let _lock = self.lock()?;
        disk::replace(&self.pending(&record.attachment), &self.beside(), &json(record)?).map(drop)
    }

    /// Notes that an attachment is complete.
    ///
    /// # Errors
    /// When its reservation is not there any more, or the record cannot be moved.
    pub fn attached(&self, attachment: &Attachment) -> Result<(), Failure> {
        let (from, to) = (self.pending(attachment), self.record(attachment));
        fs::rename(&from, &to).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = self.sentence(attachment, "has lost its reservation while it was attached");
                Failure::new(Code::Ledger, message, "")
            }
            _ => failed("write", &to, &error),
        })
    }

    /// Releases what an attachment holds: nothing, where it has no record. Works on a full disk.
    ///
    /// # Errors
    /// When a file cannot be removed; the record is then still there.
    pub fn release(&self, attachment: &Attachment) -> Result<(), Failure> {
        let _lock = self.lock()?;
        // Of somebody who was killed while writing. Nobody writes now: the lock is here.
        disk::remove(&self.beside())?;
        let record = match self.find(attachment) {
            Ok(None) => return Ok(()),
            Ok(Some((record, _))) => record,
            Err(failure) if !failure.is_of(Code::Ledger) => return Err(failure),
            // Another attachment's, of the same hash: this one holds nothing, and what that one holds is its own.
            Err(_) if self.is_anothers(attachment)? => return Ok(()),
            // Damaged. What it holds is known by the claims, which lead to it.
            Err(_) => {
                let name = hash_name(attachment);
                Ports::of(&self.state).sweep(&self.network, |holder| holder != name)?;
                self.by_claims(attachment)?
            }
        };
        self.erase(&record)
    }

    /// Whether an address of a family is held.
    ///
    /// # Errors
    /// When the claims cannot be listed.
    pub fn has_claims(&self, ipv4: bool) -> Result<bool, Failure> {
        Ok(self.claimed()?.iter().any(|address| address.is_ipv4() == ipv4))
    }

    /// Removes what no record knows of and no valid attachment could have: damaged records with their claims, claims
    /// without a record, turns that nobody has, and what a killed process was writing.
    ///
    /// # Errors
    /// When a file cannot be read or removed.
    pub fn sweep(&self, valid: &[Attachment]) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let valid: HashSet<_> = valid.iter().map(hash_name).collect();
        for name in self.records()?.1.iter().filter(|name| !valid.contains(*name)) {
            for place in PLACES {
                disk::remove(&self.directory.join(place).join(name))?;
            }
        }
        let keeps = |holder: &str| {
            // What cannot be said is kept.
            let on_record = |place: &str| disk::exists(&self.directory.join(place).join(holder)).unwrap_or(true);
            valid.contains(holder) || PLACES.into_iter().any(on_record)
        };
        for address in self.claimed()? {
            if self.claimant(address)?.is_none_or(|holder| !keeps(&holder)) {
                disk::remove(&self.claim(address))?;
            }
        }
        Ports::of(&self.state).sweep(&self.network, keeps)?;
        let turns = self.directory.join("turns");
        for name in disk::list(&turns)? {
            let path = turns.join(name);
            if let Some(held) = disk::try_lock(&path)? {
                drop(Turn::of(&path, held)?);
            }
        }
        disk::remove(&self.beside())
    }

    fn is_anothers(&self, attachment: &Attachment) -> Result<bool, Failure> {
        for path in [self.record(attachment), self.pending(attachment)] {
            if let Some(bytes) = disk::read(&path)? {
                return Ok(
                    serde_json::from_slice::<Record>(&bytes).is_ok_and(|record| record.attachment != *attachment)
                );
            }
        }
        Ok(false)
    }

    fn by_claims(&self, attachment: &Attachment) -> Result<Record, Failure> {
        let held = |address| Held { address, set: Some(String::new()) };
        let addresses = self.claims_of(&hash_name(attachment))?.into_iter().map(held).collect();
        let attachment = attachment.clone();
        Ok(Record {
            attachment,
            addresses,
            ports: Vec::new(),
            masquerade: Vec::new(),
            bandwidth: Bandwidth::default(),
            mac: None,
            sandbox: false,
            beside: None,
        })
    }

    /// The addresses that are claimed.
    ///
    /// # Errors
    /// When the claims cannot be listed.
    pub fn claimed(&self) -> Result<Vec<IpAddr>, Failure> {
        let names = disk::list(&self.directory.join("claims"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn claims_of(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        let mut addresses = Vec::new();
        for address in self.claimed()? {
            if self.claimant(address)?.is_some_and(|holder| holder == name) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// The name of the record that a claim leads to; `None` when there is no claim, or one that leads nowhere.
    fn claimant(&self, address: IpAddr) -> Result<Option<String>, Failure> {
        let claim = self.claim(address);
        match fs::read_link(&claim) {
            Ok(target) => {
                let name = target.file_name().and_then(|name| name.to_str());
                Ok(name.filter(|name| is_record_name(name)).map(str::to_owned))
            }
            // The second one: it is no link.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(failed("read", &claim, &error)),
        }
    }

    /// Who holds an address, for humans.
    fn holder_of(&self, address: IpAddr) -> Result<Option<String>, Failure> {
        let Some(name) = self.claimant(address)? else {
            let damaged = self.claim(address).symlink_metadata().is_ok();
            return Ok(damaged.then(|| "a claim that leads to no record: GC removes it".into()));
        };
        for place in PLACES {
            let found = disk::read(&self.directory.join(place).join(&name))?;
            if let Some(record) = found.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) {
                return Ok(Some(format!("container {}", record.attachment.container)));
            }
        }
        Ok(Some(format!("record {name}")))
    }

    /// Whether an attachment has a claim on an address.
    ///
    /// # Errors
    /// When the claim cannot be read.
    pub fn holds(&self, attachment: &Attachment, address: IpAddr) -> Result<bool, Failure> {
        Ok(self.claimant(address)?.is_some_and(|holder| holder == hash_name(attachment)))
    }

    /// Waits until no other ADD or DEL of this attachment is under way, and holds them off until it is dropped.
    ///
    /// # Errors
    /// When the file of the turn cannot be made or locked.
    pub fn turn(&self, attachment: &Attachment) -> Result<Turn, Failure> {
        self.turn_of(&hash_name(attachment))
    }

    /// As [`Ledger::turn`], for whoever takes away: `None` where no file can be made, as on a full disk. Then no other call
    /// for this attachment is under way, and none that could make something can begin.
    ///
    /// # Errors
    /// When another call does not come to its end.
    pub fn turn_to_release(&self, attachment: &Attachment) -> Result<Option<Turn>, Failure> {
        match self.turn(attachment) {
            Err(_) if !self.turns(&hash_name(attachment)).exists() => Ok(None),
            turn => turn.map(Some),
        }
    }

    /// Waits until nobody else takes back what dead pods of this network hold, and holds the others off until it is
    /// dropped.
    ///
    /// # Errors
    /// As [`Ledger::turn`].
    pub fn turn_to_reclaim(&self) -> Result<Turn, Failure> {
        self.turn_of("reclaim")
    }

    fn turn_of(&self, name: &str) -> Result<Turn, Failure> {
        let path = self.turns(name);
        loop {
            if let Some(turn) = Turn::of(&path, disk::lock(&path)?)? {
                return Ok(turn);
            }
        }
    }

    /// As [`Ledger::turn`], unless another is under way.
    ///
    /// # Errors
    /// As [`Ledger::turn`].
    pub fn turn_at_once(&self, attachment: &Attachment) -> Result<Option<Turn>, Failure> {
        let path = self.turns(&hash_name(attachment));
        disk::try_lock(&path)?.map_or(Ok(None), |held| Turn::of(&path, held))
    }

    /// Removes a record and the claims that are its own, the record last. What it held goes behind all that is free.
    fn erase(&self, record: &Record) -> Result<(), Failure> {
        let name = hash_name(&record.attachment);
        for held in &record.addresses {
            let claimed = self.claimant(held.address)?.is_some_and(|holder| holder == name);
            let (true, Some(set)) = (claimed, &held.set) else { continue };
            // The claim is the truth. That the address goes back to its queue is a courtesy, which must not stand in the
            // way of DEL: one that got lost is found when the queue is empty.
            if let Err(failure) = self.put_back(set, held.address) {
                eprintln!("podwire: {} is free, and will be given later than its turn: {failure}", held.address);
            }
            disk::remove(&self.claim(held.address))?;
        }
        Ports::of(&self.state).release(&self.holder(&record.attachment), &record.ports)?;
        disk::remove(&self.pending(&record.attachment))?;
        disk::remove(&self.record(&record.attachment))
    }

    fn put_back(&self, set: &str, address: IpAddr) -> Result<(), Failure> {
        // Without a name, or damaged: a name that leads to another directory is none.
        if set.is_empty() || !set.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(());
        }
        let Some(mut queue) = Free::open(&self.free(set))? else { return Ok(()) };
        queue.put(ipam::bits(address))?;
        queue.commit(&self.beside())
    }

    /// Waits for the lock of the network.
    fn lock(&self) -> Result<Flock<File>, Failure> {
        disk::lock(&self.directory.join("lock"))
    }

    fn is_of_this_boot(&self) -> Result<bool, Failure> {
        let Some(then) = disk::read(&self.directory.join("boot"))? else { return Ok(false) };
        Ok(boot()? == then)
    }

    fn forget_earlier_boot(&self) -> Result<(), Failure> {
        if self.is_of_this_boot()? {
            return Ok(());
        }
        // Every pod of an earlier boot is dead, and so is its hold on an address.
        for name in DIRECTORIES.iter().filter(|name| **name != "turns") {
            let directory = self.directory.join(name);
            for entry in disk::list(&directory)? {
                disk::remove(&directory.join(entry))?;
            }
        }
        // Or on a port. Once this network is of this boot again, its claims of then could not be told from new ones.
        Ports::of(&self.state).sweep(&self.network, |_| false)?;
        disk::replace(&self.directory.join("boot"), &self.beside(), &boot()?).map(drop)
    }

    fn holder(&self, attachment: &Attachment) -> Holder {
        Holder { network: self.network.clone(), record: hash_name(attachment) }
    }

    fn beside(&self) -> PathBuf {
        self.directory.join("writing")
    }

    fn record(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join("attachments").join(hash_name(attachment))
    }

    fn pending(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join("pending").join(hash_name(attachment))
    }

    fn claim(&self, address: IpAddr) -> PathBuf {
        self.directory.join("claims").join(address.to_string())
    }

    fn free(&self, set: &str) -> PathBuf {
        self.directory.join("free").join(set)
    }

    fn turns(&self, name: &str) -> PathBuf {
        self.directory.join("turns").join(name)
    }

    fn sentence(&self, attachment: &Attachment, what: &str) -> String {
        let Attachment { container, interface, .. } = attachment;
        format!("interface {interface} of container {container} {what} to network {}", self.network)
    }
}

/// One ADD or DEL of an attachment. It takes its file away when it is dropped.
pub struct Turn {
    path: PathBuf,
    _held: Flock<File>,
}

impl Turn {
    /// The turn, when the file that was locked is still the one of that name: whoever had the turn before has taken it
    /// away, and then it is locked by nobody else and of no use.
    fn of(path: &Path, held: Flock<File>) -> Result<Option<Self>, Failure> {
        match held.metadata().and_then(|ours| Ok(ours.ino() == fs::metadata(path)?.ino())) {
            Ok(true) => Ok(Some(Self { path: path.to_owned(), _held: held })),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("look at", path, &error)),
            _ => Ok(None),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Still locked: whoever waits for this file will find that it has gone. Left behind, it is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

/// Which boot this is. Not to know it is no reason to take everything for an earlier one's.
fn boot() -> Result<Vec<u8>, Failure> {
    fs::read(BOOT_ID).map_err(|error| failed("read", Path::new(BOOT_ID), &error))
}

fn hash_name(attachment: &Attachment) -> String {
    let Attachment { network, container, interface } = attachment;
    format!("{:016x}", hash::stable(&[network, container, interface, "record"]))
}

/// Whether a record could be called so. What is damaged may say anything, and of any length.
fn is_record_name(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::new(Code::Ledger, format!("write the ledger: {error}"), ""))
}

#[cfg(test)]
mod tests;
