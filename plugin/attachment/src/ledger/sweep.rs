//! Sweeping a ledger: removing files that belong to no attachment.

use std::collections::HashSet;

use super::attachment_lock::AttachmentLock;
use super::directory::Ledger;
use super::disk;
use super::host_ports::HostPorts;
use super::layout::{LOCKS, PLACES, record_name};
use crate::error::Result;
use crate::names::Attachment;

impl Ledger {
    /// Removes what has no record and belongs to no valid attachment: damaged records with their claims, claims without a
    /// record, locks that no process holds, and what a killed process was writing.
    ///
    /// # Errors
    /// When a file cannot be read or removed.
    pub fn sweep(&self, valid: &[Attachment]) -> Result<()> {
        let _lock = self.lock()?;
        let valid: HashSet<_> = valid.iter().map(record_name).collect();
        for name in self.records()?.1.iter().filter(|name| !valid.contains(*name)) {
            for place in PLACES {
                disk::remove(&self.directory.join(place).join(name))?;
            }
        }
        let keeps = |holder: &str| {
            // A record that cannot be looked up counts as one that exists.
            let on_record = |place: &str| disk::exists(&self.directory.join(place).join(holder)).unwrap_or(true);
            valid.contains(holder) || PLACES.into_iter().any(on_record)
        };
        for address in self.claimed()? {
            if self.claimant(address)?.is_none_or(|holder| !keeps(&holder)) {
                disk::remove(&self.claim(address))?;
            }
        }
        HostPorts::of(&self.state).sweep(&self.network, keeps)?;
        let locks = self.directory.join(LOCKS);
        for name in disk::list(&locks)? {
            let path = locks.join(name);
            if let Some(held) = disk::try_lock(&path)? {
                drop(AttachmentLock::of(&path, held)?);
            }
        }
        disk::discard(&self.temporary())
    }
}
