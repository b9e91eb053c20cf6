//! Following the membership file while the daemon runs.
//!
//! The file's metadata is looked at a few times a second. That sees a rename, an edit in place, a swapped symbolic link
//! (a mounted ConfigMap) and a file on a network file system alike, where a watch on the inode sees some of them only.
//! A change is believed when two looks in a row agree: a file that is being written is not read half.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::membership::Membership;

/// The time between two looks: a change is seen within twice this.
const INTERVAL: Duration = Duration::from_millis(200);

/// What tells one state of a file from another: device, inode, size, and times of modification and change in seconds
/// and nanoseconds.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// Reads the membership file, and goes on following it.
///
/// # Errors
/// When the file cannot be read now: a later failure keeps the last membership.
pub(crate) async fn start(path: PathBuf) -> io::Result<watch::Receiver<Membership>> {
    let stamp = stamp(&path);
    let first = read(&path).map_err(io::Error::other)?;
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move { follow(&path, stamp.ok(), sender).await });
    Ok(receiver)
}

async fn follow(path: &Path, mut read_at: Option<Stamp>, sender: watch::Sender<Membership>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut seen = read_at;
    let mut complaint = String::new();
    loop {
        ticks.tick().await;
        let now = stamp(path).ok();
        let settled = now == seen;
        seen = now;
        if !settled || now == read_at {
            continue;
        }
        read_at = now;
        match read(path) {
            Ok(membership) => {
                complaint.clear();
                let changed = |current: &mut Membership| {
                    let changed = *current != membership;
                    *current = membership;
                    changed
                };
                if sender.send_if_modified(changed) {
                    info!(nodes = sender.borrow().nodes.len(), "the membership has changed");
                }
            }
            Err(why) if why != complaint => {
                warn!("{why}; going on with the last membership that could be read");
                complaint = why;
            }
            Err(_) => {}
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let data = std::fs::metadata(path)?;
    let (modified, changed) = ((data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()));
    Ok((data.dev(), data.ino(), data.size(), modified, changed))
}

fn read(path: &Path) -> Result<Membership, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("read the membership file {}: {error}", path.display()))?;
    Membership::parse(&text).map_err(|error| format!("membership file {}: {error}", path.display()))
}
