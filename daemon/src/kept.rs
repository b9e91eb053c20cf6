//! Files that the daemon keeps as they should be: noticing that somebody has touched one. What is done then is a pass's.
//!
//! Their metadata is looked at a few times a second. A watch on the inode (inotify) would have to be set again after every
//! rename, hears nothing of a directory that is replaced or mounted over, and costs a descriptor for each; this costs two
//! stat calls.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// The time between two notices: somebody who changes a file all the time is answered this often.
const BETWEEN_NOTICES: Duration = Duration::from_millis(500);

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

/// Looks after files from now on: the receiver is told when one is not any more what it was.
pub(crate) fn watch(paths: Vec<PathBuf>) -> watch::Receiver<()> {
    let (sender, receiver) = watch::channel(());
    tokio::spawn(async move {
        let look = || paths.iter().map(|path| Stamp::of(path)).collect::<Vec<_>>();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = look();
        while !sender.is_closed() {
            ticks.tick().await;
            let now = look();
            if now != seen {
                seen = now;
                sender.send_replace(());
                sleep_until(Instant::now() + BETWEEN_NOTICES).await;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_is_done_to_a_file_is_noticed_and_a_quiet_one_is_not() {
        let directory = std::env::temp_dir().join(format!("podwired-kept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, other) = (directory.join("a"), directory.join("b"));
        fs::write(&path, "one").unwrap();
        let mut notices = watch(vec![path.clone()]);
        assert!(tokio::time::timeout(INTERVAL * 3, notices.changed()).await.is_err(), "nothing was done");
        let notice = async |notices: &mut watch::Receiver<()>| {
            tokio::time::timeout(Duration::from_secs(10), notices.changed()).await.unwrap().unwrap();
        };
        fs::write(&path, "two").unwrap();
        notice(&mut notices).await;
        fs::remove_file(&path).unwrap();
        notice(&mut notices).await;
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &path).unwrap();
        notice(&mut notices).await;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        notice(&mut notices).await;
        fs::remove_dir_all(&directory).unwrap();
        notice(&mut notices).await;
    }
}
