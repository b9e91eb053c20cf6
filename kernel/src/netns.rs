//! A network namespace: opening one, comparing two, running code inside one.

use std::fs::{File, Metadata};
use std::io::{Write, stderr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::netlink::error::{Error, Result};

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace; it lives at least as long as this value.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: String,
}

impl Namespace {
    /// Opens the namespace at a path. The error is "gone" when the path does not exist or is no namespace.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().display().to_string();
        // Without O_NONBLOCK opening a named pipe would wait for a writer.
        let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let operation = || format!("open network namespace {path}");
        let file = opened.map_err(|error| Error::system(operation(), error))?;
        if fstatfs(&file).map_err(|error| Error::system(operation(), error))?.filesystem_type() != NSFS_MAGIC {
            let metadata = file.metadata().map_err(|error| Error::system(operation(), error))?;
            return Err(Error::other_object(operation(), no_namespace(&path, &metadata)));
        }
        Ok(Self { file, path })
    }

    /// The namespace of the calling thread.
    pub fn own() -> Result<Self> {
        Self::open(OWN)
    }

    /// Whether two handles are the same namespace, whatever their paths.
    pub fn is(&self, other: &Self) -> Result<bool> {
        Ok(self.identity()? == other.identity()?)
    }

    /// The identity of the namespace within this boot: device and inode number.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let operation = || format!("identify network namespace {}", self.path);
        let metadata = self.file.metadata().map_err(|error| Error::system(operation(), error))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Runs `work` inside the namespace, on the calling thread, and always returns to `own`. Sockets opened inside stay
    /// inside.
    ///
    /// # Errors
    /// When the namespace cannot be entered; then nothing is done. When `own` cannot be entered again, which should not
    /// happen, the process aborts: nothing may run in the wrong namespace.
    pub fn within<T>(&self, own: &Self, work: impl FnOnce() -> T) -> Result<T> {
        let _return = ReturnGuard { own };
        self.enter()?;
        Ok(work())
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::system(format!("enter network namespace {}", self.path), errno))
    }
}

/// What a path is that is no namespace. Namespaces are mounted on plain files, so for one of these the reason is given why
/// nothing may be mounted on it here.
fn no_namespace(path: &str, found: &Metadata) -> String {
    if found.is_file() {
        let directory = Path::new(path).parent().unwrap_or(Path::new("/")).display();
        format!(
            "it is a plain file, and no namespace is mounted on it here: it has been unmounted, or it was mounted in another \
             mount namespace and does not propagate to this one; share the mount of {directory} with the container runtime \
             (mount --make-rshared, in a container mountPropagation: Bidirectional), or recreate the pod"
        )
    } else {
        let kind = if found.is_dir() { "a directory" } else { "a special file" };
        format!(
            "it is {kind} and no namespace: name the file that the pod's namespace is mounted on, or /proc/PID/ns/net"
        )
    }
}

/// Returns to `own` when dropped: on return, on an early return, and on a panic.
struct ReturnGuard<'a> {
    own: &'a Namespace,
}

impl Drop for ReturnGuard<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.own.enter() {
            // Nothing may run in the wrong namespace, and destructors of a panic would: what exists by now stays, and
            // is on record.
            let _ = writeln!(stderr(), "return from a pod's network namespace: {error}");
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
    fn the_own_namespace_is_the_same_by_any_path() {
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

    #[test]
    fn a_path_that_is_not_a_namespace_is_named() {
        for (path, what) in
            [("/proc/self/status", "a plain file"), ("/proc", "a directory"), ("/dev/null", "a special file")]
        {
            let error = Namespace::open(path).unwrap_err();
            let start = format!("open network namespace {path}: it is {what}");
            assert!(error.is_gone() && error.to_string().starts_with(&start), "{error}");
        }
    }
}
