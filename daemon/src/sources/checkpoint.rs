//! The last membership that lists this node, on disk: a node that starts while the Kubernetes API is away has its overlay
//! nevertheless.
//!
//! It is written beside its place, synced and renamed, so that a node that loses power has the old one or the new one, whole;
//! at most once a second, and only when it has changed. What may not live here: when a start goes by it (`kubernetes::nodes`).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use podwire_attachment::regular_file;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::cluster::membership::Membership;

/// The file's name in the state directory.
const FILE: &str = "membership.json";

/// The largest checkpoint that is read, in bytes: that of a hundred thousand nodes.
const LARGEST: u64 = 32 * 1024 * 1024;

/// The shortest pause after a write.
const PAUSE: Duration = Duration::from_secs(1);

/// How many times longer than a write the pause after it is: a cluster in turmoil costs a twentieth of a core here.
const PAUSE_FOR_WRITE: u32 = 20;

/// The cached membership, where there is one that can be read; of one that cannot the log says why.
pub(crate) fn read(directory: &Path) -> Option<Membership> {
    let path = directory.join(FILE);
    let parsed = match regular_file::read(&path, LARGEST) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => Err(error),
    };
    match parsed {
        Ok(membership) => Some(membership),
        Err(error) => {
            warn!("cached nodes {}: {error}; they are ignored, and the file will be rewritten", path.display());
            None
        }
    }
}

/// Writes the last membership that lists the node called `own`, whenever there is a new one. One that does not (a node that was
/// taken out of the cluster, the API of another cluster) does not replace one that does.
pub(crate) async fn write(directory: PathBuf, own: String, mut membership: watch::Receiver<Membership>) {
    let mut logged = String::new();
    membership.mark_changed();
    while membership.changed().await.is_ok() {
        let start = Instant::now();
        // Written as text at once: a copy of ten thousand nodes would be larger.
        let Some(text) = text(&membership.borrow_and_update(), &own) else { continue };
        let directory = directory.clone();
        let stored = spawn_blocking(move || text.and_then(|text| store(&directory, &text)));
        match stored.await.map_err(io::Error::other).and_then(|stored| stored) {
            Ok(()) if logged.is_empty() => {}
            Ok(()) => {
                info!("the nodes are cached again");
                logged.clear();
            }
            Err(error) if error.to_string() != logged => {
                logged = error.to_string();
                warn!("{logged}: a start without the Kubernetes API would use stale nodes");
            }
            Err(_) => {}
        }
        sleep(PAUSE.max(start.elapsed() * PAUSE_FOR_WRITE)).await;
    }
}

/// The text of the file, if the membership lists the node called `own`.
fn text(membership: &Membership, own: &str) -> Option<io::Result<Vec<u8>>> {
    let listed = membership.nodes.iter().any(|node| node.name == own);
    listed.then(|| Ok(serde_json::to_vec(membership)?))
}

/// Writes the file, unless it is so already.
fn store(directory: &Path, text: &[u8]) -> io::Result<()> {
    let path = directory.join(FILE);
    if regular_file::read(&path, LARGEST).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let beside = directory.join(format!(".{FILE}.new"));
    let write = || {
        fs::create_dir_all(directory)?;
        let mut file = regular_file::create(&beside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| io::Error::new(error.kind(), format!("cache the nodes in {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        Membership::parse(include_str!("../../../conf/nodes.toml")).unwrap()
    }

    fn save(directory: &Path, membership: &Membership) {
        if let Some(text) = text(membership, "node-1") {
            store(directory, &text.unwrap()).unwrap();
        }
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("podwired-checkpoint-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    #[test]
    fn a_written_checkpoint_reads_back() {
        let directory = directory("again");
        assert_eq!(read(&directory), None);
        save(&directory, &membership());
        assert_eq!(read(&directory), Some(membership()));
        let written = fs::metadata(directory.join(FILE)).unwrap().modified().unwrap();
        save(&directory, &membership());
        assert_eq!(fs::metadata(directory.join(FILE)).unwrap().modified().unwrap(), written, "written without need");
        let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_membership_without_this_node_is_not_written() {
        let directory = directory("out");
        save(&directory, &membership());
        let mut without = membership();
        without.nodes.remove(0);
        save(&directory, &without);
        save(&directory, &Membership::default());
        assert_eq!(read(&directory), Some(membership()));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_damaged_file_is_rejected() {
        let directory = directory("damaged");
        save(&directory, &membership());
        let whole = fs::read(directory.join(FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(directory.join(FILE), &whole[..length]).unwrap();
            assert_eq!(read(&directory), None, "{length} bytes of it");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
