//! The last membership that this node could believe, on disk: a node that starts while the Kubernetes API is away has its
//! overlay nevertheless.
//!
//! It is written beside its place, synced and renamed, so that a node that loses power has the one or the other, whole;
//! at most once a second, and only when it has changed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::membership::Membership;
use crate::view::View;

/// The file's name in the state directory.
const FILE: &str = "membership.json";

/// The shortest pause after a write.
const PAUSE: Duration = Duration::from_secs(1);

/// How many times longer than a write the pause after it is: a cluster in turmoil costs a twentieth of a core here.
const PAUSE_FOR_WRITE: u32 = 20;

/// The stored membership, where there is one that can be read; of one that cannot the log says why.
pub(crate) fn read(directory: &Path) -> Option<Membership> {
    let path = directory.join(FILE);
    let parsed = match fs::read(&path) {
        Ok(text) => serde_json::from_slice::<Membership>(&text).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => Err(error.to_string()),
    };
    match parsed {
        Ok(membership) => Some(membership),
        Err(why) => {
            warn!("stored membership {}: {why}; it is not used, and is written anew", path.display());
            None
        }
    }
}

/// Keeps the file equal to the last membership that the node called `own` can believe, as long as there are any.
pub(crate) async fn keep(directory: PathBuf, own: String, mut membership: watch::Receiver<Membership>) {
    let mut complaint = String::new();
    loop {
        let current = membership.borrow_and_update().clone();
        let start = Instant::now();
        let (directory, own) = (directory.clone(), own.clone());
        let stored = spawn_blocking(move || store(&directory, &own, &current));
        match stored.await.map_err(io::Error::other).and_then(|stored| stored) {
            Ok(()) if complaint.is_empty() => {}
            Ok(()) => {
                info!("the membership is stored again");
                complaint.clear();
            }
            Err(error) if error.to_string() != complaint => {
                complaint = error.to_string();
                warn!("{complaint}: a start without the Kubernetes API would use an older one");
            }
            Err(_) => {}
        }
        sleep(PAUSE.max(start.elapsed() * PAUSE_FOR_WRITE)).await;
        if membership.changed().await.is_err() {
            return;
        }
    }
}

/// Writes a membership in which this node has its place, unless it is there already. One that leaves this node out (a
/// node that was taken out of the cluster, the API of another cluster) does not take the place of one that does not.
fn store(directory: &Path, own: &str, membership: &Membership) -> io::Result<()> {
    if View::new(membership, own).is_err() {
        return Ok(());
    }
    let path = directory.join(FILE);
    let text = serde_json::to_vec(membership)?;
    if fs::read(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let beside = directory.join(format!(".{FILE}.new"));
    let write = || {
        fs::create_dir_all(directory)?;
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    };
    write()
        .map_err(|error| io::Error::new(error.kind(), format!("store the membership in {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        Membership::parse(include_str!("../../conf/nodes.toml")).unwrap()
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("podwired-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    #[test]
    fn pain44_what_was_stored_is_read_again() {
        let directory = directory("again");
        assert_eq!(read(&directory), None);
        store(&directory, "node-1", &membership()).unwrap();
        assert_eq!(read(&directory), Some(membership()));
        let written = fs::metadata(directory.join(FILE)).unwrap().modified().unwrap();
        store(&directory, "node-1", &membership()).unwrap();
        assert_eq!(fs::metadata(directory.join(FILE)).unwrap().modified().unwrap(), written, "written without need");
        let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn one_that_leaves_this_node_out_is_not_stored() {
        let directory = directory("out");
        store(&directory, "node-1", &membership()).unwrap();
        let mut without = membership();
        without.nodes.remove(0);
        store(&directory, "node-1", &without).unwrap();
        store(&directory, "node-1", &Membership::default()).unwrap();
        assert_eq!(read(&directory), Some(membership()));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_damaged_one_is_not_believed() {
        let directory = directory("damaged");
        store(&directory, "node-1", &membership()).unwrap();
        let whole = fs::read(directory.join(FILE)).unwrap();
        for length in 0..whole.len() {
            fs::write(directory.join(FILE), &whole[..length]).unwrap();
            assert_eq!(read(&directory), None, "{length} bytes of it");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
