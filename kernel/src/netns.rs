//! A network namespace: opening one, telling whether two are the same, doing something inside one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};

use crate::netlink::error::{Error, Result};

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: String,
}

impl Namespace {
    /// Opens the namespace at a path. The error is "gone" when there is nothing there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().display().to_string();
        // Without O_NONBLOCK the opening of a named pipe would wait for a writer.
        let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let file = opened.map_err(|error| Error::system(format!("open network namespace {path}"), error))?;
        Ok(Self { file, path })
    }

    /// The namespace of the calling thread.
    pub fn own() -> Result<Self> {
        Self::open(OWN)
    }

    /// Whether two handles are the same namespace, by whatever paths they were opened.
    pub fn is(&self, other: &Self) -> Result<bool> {
        Ok(self.identity()? == other.identity()?)
    }

    /// What tells this namespace from every other of this boot: device and inode number.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let operation = || format!("identify network namespace {}", self.path);
        let metadata = self.file.metadata().map_err(|error| Error::system(operation(), error))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Does `work` inside the namespace, on the calling thread, and comes back to its `own` whatever becomes of it. Sockets
    /// opened inside stay inside.
    ///
    /// # Errors
    /// When the namespace cannot be entered; nothing is done then. When the way back is barred, which the kernel has no
    /// reason for, the process ends at once: nothing may go on in the wrong namespace.
    pub fn within<T>(&self, own: &Self, work: impl FnOnce() -> T) -> Result<T> {
        let _back = Back { own };
        self.enter()?;
        Ok(work())
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system(format!("enter network namespace {}", self.path), errno))
    }
}

/// The way back: taken on return, on an early return, and on a panic.
struct Back<'a> {
    own: &'a Namespace,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.own.enter() {
            // Nothing may be done in the wrong namespace, and what a panic undoes on its way would be: what is there by
            // now stays there, and on record.
            eprintln!("come back from a pod's network namespace: {error}");
            std::process::abort();
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_itself_by_any_path() {
        let own = Namespace::own().unwrap();
        assert!(own.is(&Namespace::open("/proc/self/ns/net").unwrap()).unwrap());
        assert!(!own.is(&Namespace::open("/proc/self/ns/uts").unwrap()).unwrap());
    }

    #[test]
    fn a_missing_namespace_is_gone() {
        let error = Namespace::open("/nonexistent/netns").unwrap_err();
        assert!(error.is_gone(), "{error}");
        assert!(error.to_string().starts_with("open network namespace /nonexistent/netns: No such file"), "{error}");
    }
}
