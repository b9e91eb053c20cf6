//! A watch on the files that the daemon maintains: the conflist and the plugin's binary. Restoring them is part of a
//! reconcile.
//!
//! Their metadata is polled a few times a second. inotify would have to be set up again after every rename, does not
//! notice a directory that is replaced or mounted over, and costs a descriptor for each; polling costs two stat calls.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// The time between two polls.
const INTERVAL: Duration = Duration::from_millis(250);

/// The identity of a file's state: device, inode, mode, size, and the times of modification and change in seconds and
/// nanoseconds. Symbolic links are not followed: they are not the file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The state of a file; `None` when it cannot be read.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let data = fs::symlink_metadata(path).ok()?;
        Some(Self {
            inode: (data.dev(), data.ino()),
            mode: data.mode(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// The watched files, and their expected state.
pub(crate) struct FileWatch {
    paths: Vec<PathBuf>,
    /// `None` when that is not known yet.
    expected: Option<Vec<Option<Stamp>>>,
}

impl FileWatch {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, expected: None }
    }

    /// The present state of the files. To be called before they are restored.
    pub(crate) fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }

    /// The files have been restored; before that they were in the state `before`. A written one may have been replaced
    /// or removed since: it is checked once more.
    pub(crate) fn restored(&mut self, before: Vec<Option<Stamp>>, written: bool) {
        self.expected = (!written).then_some(before);
    }

    /// Waits until one of them has changed, or has to be checked again.
    pub(crate) async fn changed(&self) {
        loop {
            sleep(INTERVAL).await;
            if self.expected.as_ref() != Some(&self.stamps()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a change is reported within some polls.
    async fn reported(watch: &FileWatch) -> bool {
        tokio::time::timeout(INTERVAL * 4, watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn every_change_of_a_file_is_noticed_and_an_unchanged_one_is_not() {
        let directory = std::env::temp_dir().join(format!("podwired-watch-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, other) = (directory.join("a"), directory.join("b"));
        fs::write(&path, "one").unwrap();
        fs::write(&other, "two").unwrap();
        let mut watch = FileWatch::new(vec![path.clone()]);
        assert!(reported(&watch).await, "no state is expected yet");
        let damages: [&dyn Fn(); 5] = [
            &|| fs::write(&path, "two").unwrap(),
            &|| fs::rename(&other, &path).unwrap(),
            &|| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap(),
            &|| fs::remove_file(&path).unwrap(),
            &|| fs::create_dir(&path).unwrap(),
        ];
        for damage in damages {
            watch.restored(watch.stamps(), false);
            assert!(!reported(&watch).await, "nothing has changed");
            damage();
            assert!(reported(&watch).await);
        }
        // One that was written, and removed before the next poll.
        fs::remove_dir(&path).unwrap();
        let before = watch.stamps();
        fs::write(&path, "right").unwrap();
        fs::remove_dir_all(&directory).unwrap();
        watch.restored(before, true);
        assert!(reported(&watch).await);
    }
}
