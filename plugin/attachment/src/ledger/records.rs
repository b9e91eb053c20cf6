//! Records of attachments: found, listed, written, and moved when an ADD completes. How one is removed is in `release`.

use std::fs;
use std::io::ErrorKind;
use std::time::SystemTime;

use super::directory::Ledger;
use super::disk::{self, failed};
use super::layout::{ATTACHMENTS, PENDING, PLACES, encode, record_name};
use super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::names::Attachment;

impl Ledger {
    /// The record of an attachment, and whether its ADD has completed.
    ///
    /// # Errors
    /// When there is one that cannot be read, or that belongs to another attachment with the same hash.
    pub fn find(&self, attachment: &Attachment) -> Result<Option<(Record, bool)>> {
        let name = record_name(attachment);
        for (place, attached) in [(ATTACHMENTS, true), (PENDING, false)] {
            let path = self.directory.join(place).join(&name);
            let Some(bytes) = disk::read(&path)? else { continue };
            let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
                let message = format!("read {}: {error}", path.display());
                Error::new(Kind::Damaged, message, "DEL removes it, by its claims")
            })?;
            if record.attachment == *attachment {
                return Ok(Some((record, attached)));
            }
            let message = format!("{} is not of {attachment:?}", path.display());
            let details = format!("it is the record of {:?}", record.attachment);
            return Err(Error::new(Kind::ForeignRecord, message, details));
        }
        Ok(None)
    }

    /// The attachments whose record can be read, complete or not, and the names of the records that cannot be read.
    ///
    /// # Errors
    /// When a directory or a file cannot be read.
    pub fn records(&self) -> Result<(Vec<Record>, Vec<String>)> {
        self.records_in(&PLACES)
    }

    /// When a record was written, moved or removed last. (What is written over a record in its place is not seen; nobody of ours
    /// does that.)
    ///
    /// # Errors
    /// When a directory cannot be looked at.
    pub fn records_changed(&self) -> Result<SystemTime> {
        let mut last = SystemTime::UNIX_EPOCH;
        for place in PLACES {
            let directory = self.directory.join(place);
            let changed = fs::metadata(&directory).and_then(|found| found.modified());
            last = last.max(changed.map_err(|error| failed("look at", &directory, &error))?);
        }
        Ok(last)
    }

    /// The attachments whose ADD is running, or was killed.
    ///
    /// # Errors
    /// As [`Ledger::records`].
    pub fn unfinished(&self) -> Result<Vec<Record>> {
        Ok(self.records_in(&[PENDING])?.0)
    }

    /// The attachments whose ADD has completed.
    ///
    /// # Errors
    /// As [`Ledger::records`].
    pub fn attachments(&self) -> Result<Vec<Record>> {
        Ok(self.records_in(&[ATTACHMENTS])?.0)
    }

    /// A record with only those addresses that it has a claim on: after an ADD was killed between record and claim, another
    /// pod may hold one of the addresses.
    ///
    /// # Errors
    /// When a claim cannot be read.
    pub fn with_own_addresses(&self, mut record: Record) -> Result<Record> {
        let mut addresses = Vec::new();
        for held in record.addresses {
            if held.set.is_none() || self.holds(&record.attachment, held.address)? {
                addresses.push(held);
            }
        }
        record.addresses = addresses;
        Ok(record)
    }

    fn records_in(&self, places: &[&str]) -> Result<(Vec<Record>, Vec<String>)> {
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

    /// Writes the record of an ADD that is running once more, with what has been added to it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn update(&self, record: &Record) -> Result<()> {
        let _lock = self.lock()?;
        disk::replace(&self.pending(&record.attachment), &self.temporary(), &encode(record)?).map(drop)
    }

    /// Marks an attachment as complete: its ADD has succeeded.
    ///
    /// # Errors
    /// When its reservation has gone, or the record cannot be moved.
    pub fn complete(&self, attachment: &Attachment) -> Result<()> {
        let (from, to) = (self.pending(attachment), self.record(attachment));
        fs::rename(&from, &to).map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let message = self.sentence(attachment, "has lost its reservation while it was attached");
                Error::new(Kind::ReservationLost, message, "")
            }
            _ => failed("write", &to, &error),
        })
    }
}
