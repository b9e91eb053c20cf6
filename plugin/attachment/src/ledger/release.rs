//! Releasing what an attachment holds: its claims and host ports first, its record last.

use super::directory::Ledger;
use super::disk;
use super::host_ports::{Holder, HostPorts};
use super::layout::record_name;
use super::record::Record;
use crate::error::{Kind, Result};
use crate::log;
use crate::names::Attachment;

impl Ledger {
    /// Releases what an attachment holds: nothing, where it has no record. Works on a full disk.
    ///
    /// # Errors
    /// When a file cannot be removed; the record is then still there.
    pub fn release(&self, attachment: &Attachment) -> Result<()> {
        let _lock = self.lock()?;
        // Left by a process that was killed while writing. No other process writes now: the lock is held here.
        disk::discard(&self.temporary())?;
        let record = match self.find(attachment) {
            Ok(None) => return Ok(()),
            Ok(Some((record, _))) => record,
            // This attachment holds nothing, and what the other one holds is its own.
            Err(error) if error.kind() == Kind::ForeignRecord => return Ok(()),
            // The claims lead to the record, so they tell what it holds.
            Err(error) if error.kind() == Kind::Damaged => {
                let name = record_name(attachment);
                HostPorts::of(&self.state).sweep(&self.network, |holder| holder != name)?;
                self.by_claims(attachment)?
            }
            Err(error) => return Err(error),
        };
        self.erase(&record)
    }

    /// Removes a record and the claims that are its own, the record last. Its addresses go to the end of their free lists.
    pub(super) fn erase(&self, record: &Record) -> Result<()> {
        let name = record_name(&record.attachment);
        for held in &record.addresses {
            let claimed = self.claimant(held.address)?.is_some_and(|holder| holder == name);
            let (true, Some(set)) = (claimed, &held.set) else { continue };
            // The claim is the truth. A free list that cannot be written must not make DEL fail: an address that is missing
            // there is found when the list is empty.
            if let Err(error) = self.put_back(set, held.address) {
                log::note(format_args!(
                    "{} is free, but not on its free list, and is given last: {error}",
                    held.address
                ));
            }
            disk::remove(&self.claim(held.address))?;
        }
        HostPorts::of(&self.state).release(&self.holder(&record.attachment), &record.ports)?;
        disk::remove(&self.pending(&record.attachment))?;
        disk::remove(&self.record(&record.attachment))
    }

    /// An attachment, as the holder of host ports.
    pub(super) fn holder(&self, attachment: &Attachment) -> Holder {
        Holder { network: self.network.clone(), record: record_name(attachment) }
    }
}
