//! The free list of a set of ranges: the addresses that are free, in the order in which they are given, as a queue of
//! intervals in a file.
//!
//! An address is taken from the front and put back at the end, so one that was just released is given again only after
//! every other. Both cost the same, whatever the size of the range and however full it is.
//!
//! The claims are the truth, and this is a cache: an address on the list may be claimed (its claim is checked before it is
//! given), and one that is missing is found when the list is rebuilt, which happens when it is empty, unreadable or of other
//! ranges.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{self, failed};
use crate::error::Result;
use crate::ipam::Interval;
use crate::regular_file;

const MAGIC: &[u8; 8] = b"podwire1";
/// Magic, index of the first interval, index behind the last one, the address that was given last.
const HEADER: usize = 40;
/// First and last address, both inclusive.
const INTERVAL: usize = 32;
/// With more used-up intervals than this, the file is rewritten.
const USED_UP: u64 = 1024;

/// A free list that is open. Nothing is written before `commit`, save for addresses that are put.
pub(super) struct FreeList {
    file: File,
    path: PathBuf,
    head: u64,
    tail: u64,
    last: u128,
    /// The first interval, as it is after what was taken.
    front: Option<Interval>,
    /// An address that was taken out of order.
    requested: Option<u128>,
    changed: bool,
}

impl FreeList {
    /// Opens the list in a file; `None` when there is no valid one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        let file = match regular_file::open(path, OpenOptions::new().read(true).write(true)) {
            Ok(file) => file,
            // A new list takes its place, by a rename.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | regular_file::NOT_REGULAR) => return Ok(None),
            Err(error) => return Err(failed("open", path, &error)),
        };
        let mut header = [0; HEADER];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(failed("read", path, &error)),
        }
        let (magic, rest) = header.split_at(8);
        let number = |from: usize| u64::from_be_bytes(std::array::from_fn(|place| rest[from + place]));
        let (head, tail) = (number(0), number(8));
        let last = u128::from_be_bytes(std::array::from_fn(|place| rest[16 + place]));
        // A file that ends before its last interval is damaged; one that is too long is not read, and rebuilt.
        let length = file.metadata().map_err(|error| failed("look at", path, &error))?.len();
        if length > disk::LIMIT {
            return Ok(None);
        }
        let whole = tail <= length.saturating_sub(HEADER as u64) / INTERVAL as u64;
        if magic != MAGIC || head > tail || !whole {
            return Ok(None);
        }
        let mut list =
            Self { file, path: path.to_owned(), head, tail, last, front: None, requested: None, changed: false };
        list.front = list.interval(head)?;
        Ok(Some(list))
    }

    /// Writes a new list of intervals, in their order.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn create(path: &Path, temporary: &Path, intervals: &[Interval], last: u128) -> Result<Self> {
        let tail = intervals.len() as u64;
        let mut content = header(0, tail, last);
        content.extend(intervals.iter().flat_map(Interval::to_bytes));
        let file = disk::replace(path, temporary, &content)?;
        let front = intervals.first().copied();
        Ok(Self { file, path: path.to_owned(), head: 0, tail, last, front, requested: None, changed: false })
    }

    /// The address that was given last.
    pub(super) fn last(&self) -> u128 {
        self.last
    }

    /// The next address.
    pub(super) fn first(&self) -> Option<u128> {
        self.front.map(|front| front.first)
    }

    /// Takes the next address off the list.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn take_first(&mut self) -> Result<()> {
        let Some(front) = self.front else { return Ok(()) };
        self.changed = true;
        if front.first < front.last {
            self.front = Some(Interval { first: front.first + 1, ..front });
        } else {
            self.head += 1;
            self.front = self.interval(self.head)?;
        }
        Ok(())
    }

    /// Remembers which address was given last.
    pub(super) fn given(&mut self, address: u128) {
        self.last = address;
        self.changed = true;
    }

    /// Puts an address at the end.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn put(&mut self, address: u128) -> Result<()> {
        let interval = Interval { first: address, last: address };
        self.write(self.tail, interval)?;
        self.tail += 1;
        self.changed = true;
        if self.front.is_none() {
            self.front = self.interval(self.head)?;
        }
        Ok(())
    }

    /// Takes an address off the list, wherever it is: `commit` then goes through the whole list.
    pub(super) fn take(&mut self, address: u128) {
        self.requested = Some(address);
        self.changed = true;
    }

    /// Writes the changes. Used-up intervals are dropped from time to time.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn commit(mut self, temporary: &Path) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        if self.requested.is_some() || (self.head > USED_UP && self.head > self.tail - self.head) {
            let mut intervals = Vec::new();
            for place in self.head..self.tail {
                let interval = if place == self.head { self.front } else { self.interval(place)? };
                match self.requested {
                    Some(address) => intervals.extend(interval.into_iter().flat_map(|part| part.without(address))),
                    None => intervals.extend(interval),
                }
            }
            Self::create(&self.path, temporary, &intervals, self.last)?;
            return Ok(());
        }
        if let Some(front) = self.front.take() {
            self.write(self.head, front)?;
        }
        let header = header(self.head, self.tail, self.last);
        self.file.write_all_at(&header, 0).map_err(|error| failed("write", &self.path, &error))
    }

    fn interval(&self, place: u64) -> Result<Option<Interval>> {
        if place >= self.tail {
            return Ok(None);
        }
        let mut bytes = [0; INTERVAL];
        match self.file.read_exact_at(&mut bytes, HEADER as u64 + place * INTERVAL as u64) {
            Ok(()) => Ok(Some(Interval::from_bytes(&bytes))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(failed("read", &self.path, &error)),
        }
    }

    fn write(&self, place: u64, interval: Interval) -> Result<()> {
        let written = self.file.write_all_at(&interval.to_bytes(), HEADER as u64 + place * INTERVAL as u64);
        written.map_err(|error| failed("write", &self.path, &error))
    }
}

fn header(head: u64, tail: u64, last: u128) -> Vec<u8> {
    [MAGIC.as_slice(), &head.to_be_bytes(), &tail.to_be_bytes(), &last.to_be_bytes()].concat()
}
