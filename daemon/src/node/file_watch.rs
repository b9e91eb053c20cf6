//! Files that the daemon keeps as they should be: noticing that somebody has touched one. What is done then is a pass's.
//!
//! Their metadata is looked at a few times a second. A watch on the inode (inotify) would have to be set again after every
//! rename, hears nothing of a directory that is replaced or mounted over, and costs a descriptor for each; this costs two
//! stat calls.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// What tells one state of a file from another: device, inode, mode, size, and the times of modification and change in
/// seconds and nanoseconds. A link is not followed: it is not the file that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: (u64, u64),
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The state of a file; `None` where there is none that can be looked at.
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

/// The files, and what they were when all was well.
pub(crate) struct Kept {
    paths: Vec<PathBuf>,
    /// `None` when that has to be seen first.
    well: Option<Vec<Option<Stamp>>>,
}

impl Kept {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, well: None }
    }

    /// What the files are. To be asked for before they are made right.
    pub(crate) fn look(&self) -> Vec<Option<Stamp>> {
        self.paths.iter().map(|path| Stamp::of(path)).collect()
    }

    /// They have been made right after they were `before`. One that was written may be another by now, or have gone again:
    /// it is looked at once more.
    pub(crate) fn made_right(&mut self, before: Vec<Option<Stamp>>, written: bool) {
        self.well = (!written).then_some(before);
    }

    /// Waits until somebody has touched one of them, or until one has to be looked at again.
    pub(crate) async fn touched(&self) {
        loop {
            sleep(INTERVAL).await;
            if self.well.as_ref() != Some(&self.look()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is told within some looks.
    async fn told(kept: &Kept) -> bool {
        tokio::time::timeout(INTERVAL * 4, kept.touched()).await.is_ok()
    }

    #[tokio::test]
    async fn whatever_is_done_to_a_file_is_noticed_and_a_quiet_one_is_not() {
        let directory = std::env::temp_dir().join(format!("podwired-kept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, other) = (directory.join("a"), directory.join("b"));
        fs::write(&path, "one").unwrap();
        fs::write(&other, "two").unwrap();
        let mut kept = Kept::new(vec![path.clone()]);
        assert!(told(&kept).await, "nobody has looked yet");
        let damages: [&dyn Fn(); 5] = [
            &|| fs::write(&path, "two").unwrap(),
            &|| fs::rename(&other, &path).unwrap(),
            &|| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap(),
            &|| fs::remove_file(&path).unwrap(),
            &|| fs::create_dir(&path).unwrap(),
        ];
        for damage in damages {
            kept.made_right(kept.look(), false);
            assert!(!told(&kept).await, "nothing was done");
            damage();
            assert!(told(&kept).await);
        }
        // One that was written, and has gone again before anybody has looked.
        fs::remove_dir(&path).unwrap();
        let before = kept.look();
        fs::write(&path, "right").unwrap();
        fs::remove_dir_all(&directory).unwrap();
        kept.made_right(before, true);
        assert!(told(&kept).await);
    }
}
