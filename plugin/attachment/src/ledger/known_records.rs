//! Records for a program that looks at them again and again: of those that it knows, only files that have changed are read.
//!
//! What may not live here: what a record means, and how one is written (`records`).

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::time::{Duration, SystemTime};

use super::directory::Ledger;
use super::disk::{self, failed};
use super::layout::PLACES;
use super::record::Record;
use crate::error::Result;

/// A file may change again and bear the same time: the kernel's clock ticks a hundred times a second at least.
pub const TICK: Duration = Duration::from_millis(20);

/// The records as they were read last.
#[derive(Debug, Default)]
pub struct KnownRecords {
    files: BTreeMap<(usize, String), Known>,
    /// How often they have been looked at.
    looks: u64,
}

/// A file that has been read.
#[derive(Debug)]
struct Known {
    file: Identity,
    /// Whether it was old enough when it was read that each later change bears another time.
    is_settled: bool,
    /// The look that has seen it last.
    seen: u64,
    /// `None`: it is damaged.
    record: Option<Record>,
}

/// What tells a file from another one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// In seconds and nanoseconds.
    written: [i64; 2],
}

/// How a file is told from the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By its number, which its directory has. A record is replaced as a file; but where another file system than tmpfs is mounted at the
    /// state directory, a new file may get the number of one that has gone.
    ByInode,
    /// By all that can be told without reading it.
    Thoroughly,
}

impl KnownRecords {
    /// Those that could be read.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.files.values().filter_map(|known| known.record.as_ref())
    }

    /// The names of those that could not.
    pub fn damaged(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|(_, known)| known.record.is_none()).map(|((_, name), _)| &**name)
    }

    /// Reads what has changed in a ledger: the records that have come, in another one's place or in none, and those that have gone.
    /// `now`: the time by the clock that stamps its files.
    ///
    /// # Errors
    /// When a directory or a file cannot be read: what has not been looked at is as it was before.
    pub fn look(&mut self, ledger: &Ledger, how: How, now: SystemTime) -> Result<Vec<Record>> {
        self.looks += 1;
        let mut changed = Vec::new();
        for (place, directory) in PLACES.iter().map(|place| ledger.directory.join(place)).enumerate() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("list", &directory, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| failed("list", &directory, &error))?;
                let key = (place, entry.file_name().to_string_lossy().into_owned());
                changed.extend(self.look_at(key, &entry, how, now)?.into_iter().flatten());
            }
        }
        let gone = self.files.extract_if(.., |_, known| known.seen != self.looks);
        changed.extend(gone.filter_map(|(_, known)| known.record));
        Ok(changed)
    }

    /// What a file was and what it is, if it is another one.
    fn look_at(
        &mut self,
        key: (usize, String),
        entry: &DirEntry,
        how: How,
        now: SystemTime,
    ) -> Result<[Option<Record>; 2]> {
        let seen = self.looks;
        let mut known = self.files.get_mut(&key).filter(|known| known.is_settled);
        if let Some(known) = known.as_mut().filter(|known| how == How::ByInode && known.file.inode == entry.ino()) {
            known.seen = seen;
            return Ok([None, None]);
        }
        let found = match entry.metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok([None, None]),
            Err(error) => return Err(failed("look at", &entry.path(), &error)),
        };
        let file = Identity::of(&found);
        if let Some(known) = known.filter(|known| known.file == file) {
            known.seen = seen;
            return Ok([None, None]);
        }
        let Some(bytes) = disk::read(&entry.path())? else { return Ok([None, None]) };
        let record: Option<Record> = serde_json::from_slice(&bytes).ok();
        let known = Known { file, is_settled: is_settled(&found, now), seen, record: record.clone() };
        let before = self.files.insert(key, known).and_then(|before| before.record);
        Ok(if before == record { [None, None] } else { [before, record] })
    }
}

impl Identity {
    fn of(file: &Metadata) -> Self {
        let written = [file.mtime(), file.mtime_nsec()];
        Self { device: file.dev(), inode: file.ino(), bytes: file.size(), written }
    }
}

fn is_settled(file: &Metadata, now: SystemTime) -> bool {
    file.modified().is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > TICK))
}
