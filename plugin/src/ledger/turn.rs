//! Turns: one ADD or DEL of an attachment at a time.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::disk::{self, failed};
use super::{Ledger, hash_name};
use crate::cni::{Attachment, Failure};

/// One ADD or DEL of an attachment. It takes its file away when it is dropped.
pub struct Turn {
    path: PathBuf,
    _held: Flock<File>,
}

impl Turn {
    /// The turn, when the file that was locked is still the one of that name: whoever had the turn before has taken it
    /// away, and then it is locked by nobody else and of no use.
    pub(super) fn of(path: &Path, held: Flock<File>) -> Result<Option<Self>, Failure> {
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

impl Ledger {
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
}
