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

mod attachment_lock;
mod claims;
mod disk;
mod free_list;
mod host_ports;
mod record;
mod reserve;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use podwire_conf::hash;
use serde::Serialize;

pub use attachment_lock::AttachmentLock;
pub use record::{Beside, Held, Record};
pub use reserve::{Routed, Wanted};

use self::disk::failed;
use self::host_ports::{Holder, Ports};
use crate::error::{Error, Kind};
use crate::names::Attachment;

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

impl Ledger {
    /// The ledger of a network, made where there is none yet, emptied where it belongs to an earlier boot.
    ///
    /// # Errors
    /// The file that could not be made or read.
    pub fn open(state: &Path, network: &str) -> Result<Self, Error> {
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
    pub fn existing(state: &Path, network: &str) -> Result<Option<Self>, Error> {
        let boot = state.join(network).join("boot");
        if disk::exists(&boot)? { Self::open(state, network).map(Some) } else { Ok(None) }
    }

    /// The networks of this node that have a ledger.
    ///
    /// # Errors
    /// When the state directory cannot be listed.
    pub fn networks(state: &Path) -> Result<Vec<String>, Error> {
        let mut names = disk::list(state)?;
        names.retain(|name| state.join(name).join("boot").exists());
        Ok(names)
    }

    /// The ledger of a network, where there is one of this boot. Nothing is written and no lock waited for.
    ///
    /// # Errors
    /// When the file that says so cannot be read.
    pub fn of_this_boot(state: &Path, network: &str) -> Result<Option<Self>, Error> {
        let ledger = Self { state: state.into(), directory: state.join(network), network: network.into() };
        Ok(ledger.is_of_this_boot()?.then_some(ledger))
    }

    /// The ledgers of all networks of this node that are of this boot. Nothing is written and no lock waited for.
    ///
    /// # Errors
    /// When the state directory, or the file that says so, cannot be read.
    pub fn all_of_this_boot(state: &Path) -> Result<Vec<Self>, Error> {
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
    pub fn could_be_written(state: &Path, network: &str) -> Result<(), Error> {
        let wanted = state.join(network);
        let there = wanted.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        nix::unistd::access(there, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)
            .map_err(|errno| failed("write to", there, &errno.into()))
    }

    /// The record of an attachment, and whether the ADD that made it went to its end.
    ///
    /// # Errors
    /// When there is one that cannot be read, or that belongs to another attachment of the same hash.
    pub fn find(&self, attachment: &Attachment) -> Result<Option<(Record, bool)>, Error> {
        let name = hash_name(attachment);
        for (place, attached) in [("attachments", true), ("pending", false)] {
            let path = self.directory.join(place).join(&name);
            let Some(bytes) = disk::read(&path)? else { continue };
            let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
                Error::new(Kind::Damaged, format!("read {}: {error}", path.display()), "DEL removes it, by its claims")
            })?;
            if record.attachment == *attachment {
                return Ok(Some((record, attached)));
            }
            let details = format!("it is the record of {:?}", record.attachment);
            return Err(Error::new(
                Kind::ForeignRecord,
                format!("{} is not of {attachment:?}", path.display()),
                details,
            ));
        }
        Ok(None)
    }

    /// The attachments that have a record which can be read, finished or not, and the names of records that cannot.
    ///
    /// # Errors
    /// When a directory or a file cannot be read.
    pub fn records(&self) -> Result<(Vec<Record>, Vec<String>), Error> {
        self.records_in(&PLACES)
    }

    /// The attachments whose ADD is under way, or was killed.
    ///
    /// # Errors
    /// As [`Ledger::records`].
    pub fn unfinished(&self) -> Result<Vec<Record>, Error> {
        Ok(self.records_in(&["pending"])?.0)
    }

    /// The attachments whose ADD went to its end.
    ///
    /// # Errors
    /// As [`Ledger::records`].
    pub fn attachments(&self) -> Result<Vec<Record>, Error> {
        Ok(self.records_in(&["attachments"])?.0)
    }

    /// A record with those of its addresses that are its own: somebody else may have got one whose ADD was killed in
    /// between.
    ///
    /// # Errors
    /// When a claim cannot be read.
    pub fn with_own_addresses(&self, mut record: Record) -> Result<Record, Error> {
        let mut addresses = Vec::new();
        for held in record.addresses {
            if held.set.is_none() || self.holds(&record.attachment, held.address)? {
                addresses.push(held);
            }
        }
        record.addresses = addresses;
        Ok(record)
    }

    fn records_in(&self, places: &[&str]) -> Result<(Vec<Record>, Vec<String>), Error> {
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

    /// Writes the record of an ADD that is under way again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, record: &Record) -> Result<(), Error> {
        let _lock = self.lock()?;
        disk::replace(&self.pending(&record.attachment), &self.beside(), &json(record)?).map(drop)
    }

    /// Notes that an attachment is complete.
    ///
    /// # Errors
    /// When its reservation is not there any more, or the record cannot be moved.
    pub fn attached(&self, attachment: &Attachment) -> Result<(), Error> {
        let (from, to) = (self.pending(attachment), self.record(attachment));
        fs::rename(&from, &to).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = self.sentence(attachment, "has lost its reservation while it was attached");
                Error::new(Kind::ReservationLost, message, "")
            }
            _ => failed("write", &to, &error),
        })
    }

    /// Releases what an attachment holds: nothing, where it has no record. Works on a full disk.
    ///
    /// # Errors
    /// When a file cannot be removed; the record is then still there.
    pub fn release(&self, attachment: &Attachment) -> Result<(), Error> {
        let _lock = self.lock()?;
        // Of somebody who was killed while writing. Nobody writes now: the lock is here.
        disk::remove(&self.beside())?;
        let record = match self.find(attachment) {
            Ok(None) => return Ok(()),
            Ok(Some((record, _))) => record,
            // This attachment holds nothing, and what the other one holds is its own.
            Err(error) if error.kind() == Kind::ForeignRecord => return Ok(()),
            // The claims lead to the record, and so they say what it holds.
            Err(error) if error.kind() == Kind::Damaged => {
                let name = hash_name(attachment);
                Ports::of(&self.state).sweep(&self.network, |holder| holder != name)?;
                self.by_claims(attachment)?
            }
            Err(error) => return Err(error),
        };
        self.erase(&record)
    }

    /// Removes what no record knows of and no valid attachment could have: damaged records with their claims, claims
    /// without a record, turns that nobody has, and what a killed process was writing.
    ///
    /// # Errors
    /// When a file cannot be read or removed.
    pub fn sweep(&self, valid: &[Attachment]) -> Result<(), Error> {
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
                drop(AttachmentLock::of(&path, held)?);
            }
        }
        disk::remove(&self.beside())
    }

    /// Removes a record and the claims that are its own, the record last. What it held goes behind all that is free.
    fn erase(&self, record: &Record) -> Result<(), Error> {
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

    /// Waits for the lock of the network.
    fn lock(&self) -> Result<Flock<File>, Error> {
        disk::lock(&self.directory.join("lock"))
    }

    fn is_of_this_boot(&self) -> Result<bool, Error> {
        let Some(then) = disk::read(&self.directory.join("boot"))? else { return Ok(false) };
        Ok(boot()? == then)
    }

    fn forget_earlier_boot(&self) -> Result<(), Error> {
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

/// Which boot this is. Not to know it is no reason to take everything for an earlier one's.
fn boot() -> Result<Vec<u8>, Error> {
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

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::Encoding, format!("write the ledger: {error}"), ""))
}

#[cfg(test)]
mod tests;
