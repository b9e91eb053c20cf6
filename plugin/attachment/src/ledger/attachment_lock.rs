//! Turns: one ADD or DEL of an attachment at a time.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::disk::{self, failed};
use super::{Ledger, hash_name};
use crate::error::Error;
use crate::names::Attachment;

/// One ADD or DEL of an attachment. It takes its file away when it is dropped.
pub struct AttachmentLock {
    path: PathBuf,
    _held: Flock<File>,
}

impl AttachmentLock {
    /// The turn, when the file that was locked is still the one of that name: whoever had the turn before has taken it
    /// away, and then it is locked by nobody else and of no use.
    pub(super) fn of(path: &Path, held: Flock<File>) -> Result<Option<Self>, Error> {
        match held.metadata().and_then(|ours| Ok(ours.ino() == fs::metadata(path)?.ino())) {
            Ok(true) => Ok(Some(Self { path: path.to_owned(), _held: held })),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("look at", path, &error)),
            _ => Ok(None),
        }
    }
}

impl Drop for AttachmentLock {
    fn drop(&mut self) {
        // Still locked: whoever waits for this file will find that it has gone. Left behind, it is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

impl Ledger {
    /// Waits until no other ADD or DEL of this attachment is under way, and holds them off until it is dropped.
    ///
    /// # Errors
    /// When the file of the turn cannot be made or locked.
    pub fn lock_attachment(&self, attachment: &Attachment) -> Result<AttachmentLock, Error> {
        self.turn_of(&hash_name(attachment))
    }

    /// As [`Ledger::lock_attachment`], for whoever takes away: `None` where no file can be made, as on a full disk. Then no other call
    /// for this attachment is under way, and none that could make something can begin.
    ///
    /// # Errors
    /// When another call does not come to its end.
    pub fn lock_to_release(&self, attachment: &Attachment) -> Result<Option<AttachmentLock>, Error> {
        match self.lock_attachment(attachment) {
            Err(_) if !self.turns(&hash_name(attachment)).exists() => Ok(None),
            turn => turn.map(Some),
        }
    }

    /// Waits until nobody else takes back what dead pods of this network hold, and holds the others off until it is
    /// dropped.
    ///
    /// # Errors
    /// As [`Ledger::lock_attachment`].
    pub fn lock_to_reclaim(&self) -> Result<AttachmentLock, Error> {
        self.turn_of("reclaim")
    }

    fn turn_of(&self, name: &str) -> Result<AttachmentLock, Error> {
        let path = self.turns(name);
        loop {
            if let Some(turn) = AttachmentLock::of(&path, disk::lock(&path)?)? {
                return Ok(turn);
            }
        }
    }

    /// As [`Ledger::lock_attachment`], unless another is under way.
    ///
    /// # Errors
    /// As [`Ledger::lock_attachment`].
    pub fn try_lock_attachment(&self, attachment: &Attachment) -> Result<Option<AttachmentLock>, Error> {
        let path = self.turns(&hash_name(attachment));
        disk::try_lock(&path)?.map_or(Ok(None), |held| AttachmentLock::of(&path, held))
    }
}
