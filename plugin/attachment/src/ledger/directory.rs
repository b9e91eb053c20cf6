//! The ledger of one network: its directory, opened for this boot, and the paths in it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use nix::unistd::{AccessFlags, access};

use super::disk::{self, failed};
use super::host_ports::HostPorts;
use super::layout::{ATTACHMENTS, BOOT, CLAIMS, DIRECTORIES, FREE, LOCKS, PENDING, boot, record_name};
use crate::error::Result;
use crate::names::Attachment;

/// The ledger of one network.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(super) state: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) network: String,
}

impl Ledger {
    /// The ledger of a network. It is created where there is none, and emptied where it belongs to an earlier boot.
    ///
    /// # Errors
    /// The file that could not be created or read.
    pub fn open(state: &Path, network: &str) -> Result<Self> {
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
    pub fn existing(state: &Path, network: &str) -> Result<Option<Self>> {
        let boot = state.join(network).join(BOOT);
        if disk::exists(&boot)? { Self::open(state, network).map(Some) } else { Ok(None) }
    }

    /// The networks of this node that have a ledger.
    ///
    /// # Errors
    /// When the state directory cannot be listed.
    pub fn networks(state: &Path) -> Result<Vec<String>> {
        let mut names = disk::list(state)?;
        names.retain(|name| state.join(name).join(BOOT).exists());
        Ok(names)
    }

    /// The ledger of a network, where there is one of this boot. Writes nothing and waits for no lock.
    ///
    /// # Errors
    /// When the id of its boot cannot be read.
    pub fn of_this_boot(state: &Path, network: &str) -> Result<Option<Self>> {
        let ledger = Self { state: state.into(), directory: state.join(network), network: network.into() };
        Ok(ledger.is_of_this_boot()?.then_some(ledger))
    }

    /// The ledgers of all networks of this node that are of this boot. Writes nothing and waits for no lock.
    ///
    /// # Errors
    /// When the state directory or the id of a boot cannot be read.
    pub fn all_of_this_boot(state: &Path) -> Result<Vec<Self>> {
        let mut ledgers = Vec::new();
        for network in Self::networks(state)? {
            ledgers.extend(Self::of_this_boot(state, &network)?);
        }
        Ok(ledgers)
    }

    /// Checks that a ledger could be created or written below a directory, which need not exist yet. Writes nothing.
    ///
    /// # Errors
    /// The directory that does not allow it.
    pub fn could_be_written(state: &Path, network: &str) -> Result<()> {
        let wanted = state.join(network);
        let there = wanted.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        access(there, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| failed("write to", there, &errno.into()))
    }

    /// Waits for the lock of the network.
    pub(super) fn lock(&self) -> Result<Flock<File>> {
        disk::lock(&self.directory.join("lock"))
    }

    fn is_of_this_boot(&self) -> Result<bool> {
        let Some(then) = disk::read(&self.directory.join(BOOT))? else { return Ok(false) };
        Ok(boot()? == then)
    }

    fn forget_earlier_boot(&self) -> Result<()> {
        if self.is_of_this_boot()? {
            return Ok(());
        }
        // Every pod of an earlier boot is dead, so its addresses are free.
        for name in DIRECTORIES.iter().filter(|name| **name != LOCKS) {
            let directory = self.directory.join(name);
            for entry in disk::list(&directory)? {
                disk::remove(&directory.join(entry))?;
            }
        }
        // And so are its host ports. Once this network is of this boot, old claims could not be told from new ones.
        HostPorts::of(&self.state).sweep(&self.network, |_| false)?;
        disk::replace(&self.directory.join(BOOT), &self.temporary(), boot()?).map(drop)
    }

    /// Where a file is written before it is renamed to its place. Used under the lock of the network.
    pub(super) fn temporary(&self) -> PathBuf {
        self.directory.join("writing")
    }

    /// The record of an attachment whose ADD has completed.
    pub(super) fn record(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join(ATTACHMENTS).join(record_name(attachment))
    }

    /// The record of an attachment whose ADD has not completed.
    pub(super) fn pending(&self, attachment: &Attachment) -> PathBuf {
        self.directory.join(PENDING).join(record_name(attachment))
    }

    /// The claim on an address.
    pub(super) fn claim(&self, address: IpAddr) -> PathBuf {
        self.directory.join(CLAIMS).join(address.to_string())
    }

    /// The free list of a set of ranges.
    pub(super) fn free(&self, set: &str) -> PathBuf {
        self.directory.join(FREE).join(set)
    }

    /// A sentence about an attachment.
    pub(super) fn sentence(&self, attachment: &Attachment, what: &str) -> String {
        let Attachment { container, interface, .. } = attachment;
        format!("interface {interface} of container {container} {what} to network {}", self.network)
    }
}
