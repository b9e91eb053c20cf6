//! Which runtime has listed which sandbox: remembered over restarts of the daemon, for no longer than a boot, in a small file
//! in the run directory. Only what has an attachment is remembered, so the file is bounded by the ledger.
//!
//! What may not live here: what follows from it (`garbage`).

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use podwire_attachment::regular_file;
use serde::{Deserialize, Serialize};

use crate::node::cri::Listing;

/// The file's name in the run directory, which is on a tmpfs.
const FILE: &str = "listed-sandboxes.json";

/// The most bytes of it that are read: a hundred bytes for each of forty thousand sandboxes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// What each runtime has listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListedSandboxes {
    runtimes: Vec<Runtime>,
}

/// A runtime, and those of its sandboxes that have attachments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Runtime {
    socket: PathBuf,
    name: String,
    sandboxes: BTreeSet<String>,
}

impl ListedSandboxes {
    /// Enters what the runtime at a socket lists, of the containers that have `attached` something. Others are forgotten. A
    /// sandbox is of the runtime that has listed it last.
    pub(crate) fn enter(&mut self, socket: &Path, listing: &Listing, attached: &HashSet<&str>) {
        let is_of = |runtime: &Runtime| runtime.socket == socket && runtime.name == listing.name;
        if !self.runtimes.iter().any(is_of) {
            let (socket, name) = (socket.into(), listing.name.clone());
            self.runtimes.push(Runtime { socket, name, sandboxes: BTreeSet::new() });
        }
        for runtime in &mut self.runtimes {
            if is_of(runtime) {
                runtime.sandboxes.extend(listing.sandboxes.iter().cloned());
            } else {
                runtime.sandboxes.retain(|sandbox| !listing.sandboxes.contains(sandbox));
            }
            runtime.sandboxes.retain(|sandbox| attached.contains(sandbox.as_str()));
        }
        self.runtimes.retain(|runtime| !runtime.sandboxes.is_empty());
    }

    /// Whether the runtime at a socket, of this name, has listed a sandbox.
    pub(crate) fn has(&self, socket: &Path, name: &str, sandbox: &str) -> bool {
        let mut of_runtime = self.runtimes.iter().filter(|runtime| runtime.socket == socket && runtime.name == name);
        of_runtime.any(|runtime| runtime.sandboxes.contains(sandbox))
    }

    /// What an earlier daemon of this boot has remembered; nothing where there is none.
    ///
    /// # Errors
    /// When it cannot be read: nothing is known then, and nothing that depends on it is released.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let read = regular_file::read(&path, LONGEST).and_then(|text| Ok(serde_json::from_slice(&text)?));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            read => read.map_err(|error| named(&error, "read", &path)),
        }
    }

    /// Writes it beside its place and renames it. No sync: the run directory does not outlive a power cut.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let (path, beside) = (directory.join(FILE), directory.join(format!(".{FILE}.new")));
        let write = || {
            regular_file::create(&beside)?.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error: io::Error| named(&error, "write", &path))
    }
}

fn named(error: &io::Error, operation: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(name: &str, sandboxes: &[&str]) -> Listing {
        Listing { name: name.into(), sandboxes: sandboxes.iter().map(|id| (*id).to_owned()).collect() }
    }

    #[test]
    fn a_sandbox_is_of_the_runtime_that_listed_it_last_for_as_long_as_it_has_an_attachment() {
        let mut listed = ListedSandboxes::default();
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        let attached = HashSet::from(["a", "b"]);
        listed.enter(one, &listing("containerd", &["a", "b", "of-the-host"]), &attached);
        assert!(listed.has(one, "containerd", "a") && !listed.has(one, "containerd", "of-the-host"));
        assert!(!listed.has(one, "cri-o", "a") && !listed.has(two, "containerd", "a"));
        // It is remembered though it is not listed any more, but not for another runtime.
        listed.enter(one, &listing("containerd", &[]), &attached);
        listed.enter(two, &listing("cri-o", &["b"]), &attached);
        assert!(listed.has(one, "containerd", "a") && !listed.has(one, "containerd", "b"));
        assert!(listed.has(two, "cri-o", "b"));
        listed.enter(two, &listing("cri-o", &["b"]), &HashSet::from(["c"]));
        assert_eq!(listed, ListedSandboxes::default());
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_an_error() {
        let directory = std::env::temp_dir().join(format!("podwired-listed-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(ListedSandboxes::read(&directory).unwrap(), ListedSandboxes::default());
        let mut listed = ListedSandboxes::default();
        listed.enter(Path::new("/a"), &listing("containerd", &["a"]), &HashSet::from(["a"]));
        listed.write(&directory).unwrap();
        assert_eq!(ListedSandboxes::read(&directory).unwrap(), listed);
        fs::write(directory.join(FILE), "{").unwrap();
        let why = ListedSandboxes::read(&directory).unwrap_err().to_string();
        assert!(why.starts_with(&format!("read {}: ", directory.join(FILE).display())), "{why}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
