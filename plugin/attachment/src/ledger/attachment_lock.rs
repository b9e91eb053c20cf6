//! The lock of an attachment: one ADD, DEL or repair of it at a time, by plugin and daemon alike.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::directory::Ledger;
use super::disk::{self, failed};
use super::layout::{LOCKS, record_name};
use crate::error::Result;
use crate::names::Attachment;

/// The lock of an attachment, held. Its file is removed when this is dropped.
pub struct AttachmentLock {
    path: PathBuf,
    _held: Flock<File>,
}

impl AttachmentLock {
    /// The lock, if the locked file still has its name. Otherwise the previous holder has removed it, and the next caller
    /// would lock another file.
    pub(super) fn of(path: &Path, held: Flock<File>) -> Result<Option<Self>> {
        match held.metadata().and_then(|ours| Ok(ours.ino() == fs::metadata(path)?.ino())) {
            Ok(true) => Ok(Some(Self { path: path.to_owned(), _held: held })),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("look at", path, &error)),
            _ => Ok(None),
        }
    }
}

impl Drop for AttachmentLock {
    fn drop(&mut self) {
        // Still locked: a process that waits for this file will find that it has gone. A file left behind does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

impl Ledger {
    /// Waits until no other ADD or DEL of this attachment is running, and locks it until the lock is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be created or locked.
    pub fn lock_attachment(&self, attachment: &Attachment) -> Result<AttachmentLock> {
        self.lock_named(&record_name(attachment))
    }

    /// As [`Ledger::lock_attachment`], for a caller that only removes: `None` where no file can be created, as on a full
    /// disk. Then no other call for this attachment is running, and none that adds something can start.
    ///
    /// # Errors
    /// When another call does not finish.
    pub fn lock_to_release(&self, attachment: &Attachment) -> Result<Option<AttachmentLock>> {
        match self.lock_attachment(attachment) {
            Err(_) if !self.lock_file(&record_name(attachment)).exists() => Ok(None),
            lock => lock.map(Some),
        }
    }

    /// Waits until no other process reclaims what dead pods of this network hold, and locks reclaiming until the
    /// lock is dropped.
    ///
    /// # Errors
    /// As [`Ledger::lock_attachment`].
    pub fn lock_to_reclaim(&self) -> Result<AttachmentLock> {
        self.lock_named("reclaim")
    }

    /// As [`Ledger::lock_attachment`], but without waiting: `None` while another call holds the lock.
    ///
    /// # Errors
    /// As [`Ledger::lock_attachment`].
    pub fn try_lock_attachment(&self, attachment: &Attachment) -> Result<Option<AttachmentLock>> {
        let path = self.lock_file(&record_name(attachment));
        disk::try_lock(&path)?.map_or(Ok(None), |held| AttachmentLock::of(&path, held))
    }

    fn lock_named(&self, name: &str) -> Result<AttachmentLock> {
        let path = self.lock_file(name);
        loop {
            if let Some(lock) = AttachmentLock::of(&path, disk::lock(&path)?)? {
                return Ok(lock);
            }
        }
    }

    fn lock_file(&self, name: &str) -> PathBuf {
        self.directory.join(LOCKS).join(name)
    }
}
