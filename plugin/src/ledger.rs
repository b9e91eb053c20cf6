//! Who holds which address: the only file that knows the state directory.
//!
//! ```text
//! /run/podwire/<network>/lock                  held while anything below changes
//!                        boot                  the boot that all this belongs to
//!                        attachments/<hash>    a record: which pod, which device, which addresses
//!                        claims/<address>      the hash of the attachment that holds the address
//!                        turns/<hash>          held by the one ADD or DEL of an attachment that is under way
//!                        index                 what was given last, what was released a moment ago
//! ```
//! Records and claims are the truth; the index only makes the choice good, and is made anew when it cannot be read.
//! Every file is written beside its place and renamed into it. A record is written before its claims and removed after
//! them, so whatever a killed process left behind is found by its record.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use podwire_conf::{Range, hash};
use serde::{Deserialize, Serialize};

use crate::cni::{Attachment, Code, Failure};
use crate::ipam::{self, Known};

/// How long a released address rests before it is given again, in seconds: what others still remember of its last owner
/// (connections, policies, caches) has gone by then.
const REST: i64 = 30;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The ledger of one network.
pub struct Ledger {
    directory: PathBuf,
    network: String,
}

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub attachment: Attachment,
    /// The addresses it holds.
    pub addresses: Vec<IpAddr>,
    /// Whether the ADD that made it went to its end.
    pub attached: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The address given last, by set.
    last: BTreeMap<String, IpAddr>,
    /// Released addresses and when, in seconds since boot; oldest first.
    resting: Vec<(IpAddr, i64)>,
}

impl Ledger {
    /// The ledger of a network, made where there is none yet, emptied where it belongs to an earlier boot.
    ///
    /// # Errors
    /// The file that could not be made or read.
    pub fn open(state: &Path, network: &str) -> Result<Self, Failure> {
        let ledger = Self { directory: state.join(network), network: network.into() };
        for name in ["attachments", "claims", "turns"] {
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
        if state.join(network).join("boot").exists() { Self::open(state, network).map(Some) } else { Ok(None) }
    }

    /// The record of an attachment.
    ///
    /// # Errors
    /// When there is one that cannot be read, or that belongs to another attachment of the same hash.
    pub fn find(&self, attachment: &Attachment) -> Result<Option<Record>, Failure> {
        let path = self.record(attachment);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(Code::Ledger, format!("read {}: {error}", path.display()), "remove the file to go on")
        })?;
        if record.attachment == *attachment {
            return Ok(Some(record));
        }
        let details = format!("it is the record of {:?}", record.attachment);
        Err(Failure::new(Code::Ledger, format!("{} is not of {attachment:?}", path.display()), details))
    }

    /// Reserves one address out of each set for an attachment that has no record.
    ///
    /// # Errors
    /// When it has one, when a set has no free address, when a file cannot be written; then nothing is held.
    pub fn reserve(&self, attachment: &Attachment, sets: &[Vec<Range>]) -> Result<Vec<IpAddr>, Failure> {
        let _lock = self.lock()?;
        if let Some(record) = self.find(attachment)? {
            let details = format!("it holds {:?}: DEL comes before another ADD", record.addresses);
            return Err(Failure::new(Code::AlreadyAttached, self.sentence(attachment, "is attached already"), details));
        }
        let mut index = self.index()?;
        let now = seconds_since_boot()?;
        index.resting.retain(|(_, released)| now - released < REST);
        let resting: Vec<_> = index.resting.iter().map(|(address, _)| *address).collect();
        let mut addresses = Vec::new();
        for set in sets {
            let name = set_name(set);
            let taken = |address| self.claim(address).exists();
            let known = Known { taken: &taken, resting: &resting, last: index.last.get(&name).copied() };
            let Some(address) = ipam::choose(set, &known) else {
                let details = format!("all {} are held; see {}", ipam::size(set), self.directory.display());
                return Err(Failure::new(Code::Exhausted, format!("no IP addresses available in {name}"), details));
            };
            index.last.insert(name, address);
            index.resting.retain(|(resting, _)| *resting != address);
            addresses.push(address);
        }
        let record = Record { attachment: attachment.clone(), addresses, attached: false };
        self.store(&record)
            .and_then(|()| self.replace(&self.directory.join("index"), &json(&index)?))
            .inspect_err(|_| self.erase(&record).unwrap_or_else(|error| eprintln!("podwire: undo: {error}")))?;
        Ok(record.addresses)
    }

    /// Notes that an attachment is complete.
    ///
    /// # Errors
    /// When its reservation is not there any more, or the record cannot be written.
    pub fn attached(&self, attachment: &Attachment, addresses: &[IpAddr]) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let reserved = self.find(attachment)?.is_some_and(|record| record.addresses == addresses);
        if !reserved {
            let message = self.sentence(attachment, "has lost its reservation while it was attached");
            return Err(Failure::new(Code::Ledger, message, ""));
        }
        let record = Record { attachment: attachment.clone(), addresses: addresses.to_vec(), attached: true };
        self.replace(&self.record(attachment), &json(&record)?)
    }

    /// Releases what an attachment holds: nothing, where it has no record. Works on a full disk.
    ///
    /// # Errors
    /// When a file cannot be removed; the record is then still there.
    pub fn release(&self, attachment: &Attachment) -> Result<(), Failure> {
        let _lock = self.lock()?;
        let Some(bytes) = read(&self.record(attachment))? else { return Ok(()) };
        let record = match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.attachment == *attachment => record,
            // Another attachment's, of the same hash: this one holds nothing, and what that one holds is its own.
            Ok(_) => return Ok(()),
            // Damaged. What it holds is known by the claims, which bear its hash.
            Err(_) => {
                let addresses = self.claims_of(attachment)?;
                Record { attachment: attachment.clone(), addresses, attached: true }
            }
        };
        self.erase(&record)?;
        // The addresses are free. That they rest is a courtesy, which must not stand in the way of DEL.
        if let Err(failure) = self.rest(&record.addresses) {
            eprintln!("podwire: the released addresses do not rest: {failure}");
        }
        Ok(())
    }

    fn rest(&self, addresses: &[IpAddr]) -> Result<(), Failure> {
        let mut index = self.index()?;
        let now = seconds_since_boot()?;
        index.resting.retain(|(_, released)| now - released < REST);
        index.resting.extend(addresses.iter().map(|address| (*address, now)));
        self.replace(&self.directory.join("index"), &json(&index)?)
    }

    fn claims_of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>, Failure> {
        let (directory, holder) = (self.directory.join("claims"), hash_name(attachment));
        let mut addresses = Vec::new();
        for entry in fs::read_dir(&directory).map_err(|error| failed("list", &directory, &error))? {
            let path = entry.map_err(|error| failed("list", &directory, &error))?.path();
            let address = path.file_name().and_then(|name| name.to_str()?.parse::<IpAddr>().ok());
            if read(&path)?.is_some_and(|found| found == holder.as_bytes()) {
                addresses.extend(address);
            }
        }
        Ok(addresses)
    }

    /// Waits until no other ADD or DEL of this attachment is under way, and holds them off until it is dropped.
    ///
    /// # Errors
    /// When the file of the turn cannot be made or locked.
    pub fn turn(&self, attachment: &Attachment) -> Result<Turn, Failure> {
        let path = self.directory.join("turns").join(hash_name(attachment));
        loop {
            let held = lock(&path)?;
            // Whoever had the turn before has taken its file away: then this one is locked by nobody else and of no use.
            let same = held.metadata().and_then(|ours| Ok(ours.ino() == fs::metadata(&path)?.ino()));
            match same {
                Ok(true) => return Ok(Turn { path, _held: held }),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("look at", &path, &error)),
                _ => {}
            }
        }
    }

    fn store(&self, record: &Record) -> Result<(), Failure> {
        self.replace(&self.record(&record.attachment), &json(record)?)?;
        let holder = hash_name(&record.attachment);
        record.addresses.iter().try_for_each(|address| self.replace(&self.claim(*address), holder.as_bytes()))
    }

    /// Removes a record and the claims that are its own, the record last.
    fn erase(&self, record: &Record) -> Result<(), Failure> {
        let holder = hash_name(&record.attachment);
        for address in &record.addresses {
            let claim = self.claim(*address);
            if read(&claim)?.is_some_and(|found| found == holder.as_bytes()) {
                remove(&claim)?;
            }
        }
        remove(&self.record(&record.attachment))
    }

    /// Waits for the lock of the network.
    fn lock(&self) -> Result<Flock<File>, Failure> {
        lock(&self.directory.join("lock"))
    }

    fn forget_earlier_boot(&self) -> Result<(), Failure> {
        let now = fs::read(BOOT_ID).map_err(|error| failed("read", Path::new(BOOT_ID), &error))?;
        let stamp = self.directory.join("boot");
        if read(&stamp)?.is_some_and(|then| then == now) {
            return Ok(());
        }
        // Every pod of an earlier boot is dead, and so is its hold on an address.
        for name in ["attachments", "claims"] {
            let directory = self.directory.join(name);
            for entry in fs::read_dir(&directory).map_err(|error| failed("list", &directory, &error))? {
                remove(&entry.map_err(|error| failed("list", &directory, &error))?.path())?;
            }
        }
        remove(&self.directory.join("index"))?;
        self.replace(&stamp, &now)
    }

    /// Writes beside and renames: a reader sees the old content or the new. Not synced: this is a tmpfs, and what a power
    /// cut takes it takes whole.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), Failure> {
        let beside = self.directory.join("writing");
        let write = || {
            let mut file = File::create(&beside)?;
            file.write_all(content)?;
            fs::rename(&beside, path)
        };
        write().map_err(|error| failed("write", path, &error))
    }

    fn index(&self) -> Result<Index, Failure> {
        let path = self.directory.join("index");
        let Some(bytes) = read(&path)? else { return Ok(Index::default()) };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            eprintln!("podwire: read {}: {error}: it is made anew", path.display());
            Index::default()
        }))
    }

    fn record(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join("attachments").join(hash_name(attachment))
    }

    fn claim(&self, address: IpAddr) -> PathBuf {
        self.directory.join("claims").join(address.to_string())
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

impl Drop for Turn {
    fn drop(&mut self) {
        // Still locked: whoever waits for this file will find that it has gone. Left behind, it is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits for the lock on a file, which is made where there is none. The kernel frees it when its holder dies.
fn lock(path: &Path) -> Result<Flock<File>, Failure> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let mut file = file.map_err(|error| failed("open", path, &error))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((returned, Errno::EINTR)) => file = returned,
            Err((_, errno)) => {
                return Err(Failure::new(Code::TryAgain, format!("lock {}: {errno}", path.display()), ""));
            }
        }
    }
}

fn set_name(set: &[Range]) -> String {
    set.iter().map(|range| range.subnet.to_string()).collect::<Vec<_>>().join(", ")
}

fn hash_name(attachment: &Attachment) -> String {
    let Attachment { network, container, interface } = attachment;
    format!("{:016x}", hash::stable(&[network, container, interface, "record"]))
}

fn seconds_since_boot() -> Result<i64, Failure> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    now.map(|time| time.tv_sec()).map_err(|errno| failed("read", Path::new("CLOCK_BOOTTIME"), &errno.into()))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::new(Code::Ledger, format!("write the ledger: {error}"), ""))
}

/// The content of a file; `None` when there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(wish: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::io(format!("{wish} {}", path.display()), error)
}

#[cfg(test)]
mod tests;
