//! What tells one state of a file from another, and whether a file is at rest: for the files that are followed.
//!
//! The metadata is read a few times a second. That sees a rename, an edit in place, a swapped symbolic link (a mounted
//! ConfigMap) and a file on a network file system alike, where a watch on the inode sees some of them only. A change counts
//! when it was seen twice in a row: a file that is being written is not read half.
//!
//! What may not live here: what is in a file.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use podwire_attachment::regular_file::NOT_REGULAR;

/// The time between two reads of the metadata: a change is seen within twice this.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);

/// A file that was last changed so long ago is not being written.
const AT_REST: Duration = Duration::from_secs(1);

/// One that has been changing for so long is said to be.
pub(super) const RESTLESS: Duration = Duration::from_secs(5);

/// A state of a file: device, inode, size, and times of modification and change in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The state of the regular file at a path, behind symbolic links.
    ///
    /// # Errors
    /// What the kernel says, and of the kind [`NOT_REGULAR`] where it is no regular file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let data = std::fs::metadata(path)?;
        if !data.is_file() {
            return Err(io::Error::new(NOT_REGULAR, "it is not a regular file"));
        }
        let (modified, changed) = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
        Ok(Self { inode: (data.dev(), data.ino()), size: data.size(), modified, changed })
    }

    /// Whether the file has not been changed for a while. One from the future is not known to be at rest.
    pub(super) fn is_at_rest(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds).ok().zip(u32::try_from(nanoseconds).ok());
        let age = changed.and_then(|(seconds, nanoseconds)| since.checked_sub(Duration::new(seconds, nanoseconds)));
        age.is_some_and(|age| age >= AT_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_at_rest_a_second_after_its_change_and_one_from_the_future_is_not() {
        let changed = |changed| Stamp { inode: (1, 2), size: 3, modified: (0, 0), changed };
        let at = |seconds| changed((1_000, 500_000_000)).is_at_rest(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!([999, 1_000, 1_001, 1_002].map(at), [false, false, false, true]);
        assert!(!changed((-1, 0)).is_at_rest(UNIX_EPOCH));
    }
}
