//! Files of the ledger: read, replaced as a whole, removed, locked. What is in them is not said here.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Kind, Result};
use crate::regular_file;

/// How long to wait for a lock. Holders need far less than a millisecond, so a longer wait means that the machine is stuck,
/// and the runtime should try again later.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes that a file of the ledger may have: a record with 65,535 host ports has six million.
pub(super) const LIMIT: u64 = 64 << 20;

/// The content of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match regular_file::read(path, LIMIT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Whether there is a file or a directory. Not being able to look is an error, not a no.
pub(super) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| failed("look at", path, &error))
}

/// Writes a temporary file and renames it, so a reader sees the old content or the new. No fsync: a power cut takes all of a
/// tmpfs. Returns the file, open for reading and writing.
pub(super) fn replace(path: &Path, temporary: &Path, content: &[u8]) -> Result<File> {
    // What a killed process has left of it, or somebody has put there, is not opened.
    let mut file = regular_file::create(temporary).map_err(|error| failed("create", temporary, &error))?;
    let written = file.write_all(content).and_then(|()| fs::rename(temporary, path));
    written.map(|()| file).map_err(|error| {
        // The first error is returned. If this fails as well, the next writer overwrites the file.
        let _ = fs::remove_file(temporary);
        failed("write", path, &error)
    })
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Removes what a killed process was writing. Where another program has made a directory of this name nothing is in the way of a
/// release; the next write names it.
pub(super) fn discard(temporary: &Path) -> Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            Err(failed("remove", temporary, &error))
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none if it does not exist.
pub(super) fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", path, &error)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| -> Result<String> {
        let entry = entry.map_err(|error| failed("list", path, &error))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// Waits for the lock on a file, which is created if needed. The kernel releases the lock when its holder dies.
pub(super) fn lock(path: &Path) -> Result<Flock<File>> {
    match attempt(path)? {
        Ok(lock) => Ok(lock),
        Err(file) => wait(path, file, LOCK_TIMEOUT),
    }
}

/// The lock on a file, unless another process holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    Ok(attempt(path)?.ok())
}

fn attempt(path: &Path) -> Result<std::result::Result<Flock<File>, File>> {
    let file = regular_file::open(path, OpenOptions::new().create(true).truncate(false).write(true));
    let file = file.map_err(|error| failed("open", path, &error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(lock)),
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(Err(file)),
        Err((_, errno)) => Err(failed("lock", path, &errno.into())),
    }
}

/// `flock` has no timeout: another thread waits, and is abandoned at the limit. It then holds nothing but its place in the
/// kernel's queue, and ends with the process.
fn wait(path: &Path, mut file: File, limit: Duration) -> Result<Flock<File>> {
    let (sender, receiver) = channel();
    let waiter = thread::spawn(move || {
        let locked = loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Err((returned, Errno::EINTR)) => file = returned,
                other => break other.map_err(|(_, errno)| errno),
            }
        };
        // The receiver has gone after the limit.
        let _ = sender.send(locked);
    });
    match receiver.recv_timeout(limit) {
        Ok(locked) => {
            // The holder of the lock may fork, which needs a process with no other thread.
            let _ = waiter.join();
            locked.map_err(|errno| failed("lock", path, &errno.into()))
        }
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let message = format!("lock {}: another process has held it for {} s", path.display(), limit.as_secs());
            Err(Error::new(Kind::Busy, message, "`fuser -v` or /proc/locks tells which one"))
        }
    }
}

/// An error of the file system: what was wanted, of which file, and the way out.
pub(super) fn failed(action: &str, path: &Path, error: &std::io::Error) -> Error {
    let message = format!("{action} {}: {error}", path.display());
    Error::new(Kind::Io, message, way_out(error.kind()))
}

/// What to do about a file of the ledger that fails so.
fn way_out(error: ErrorKind) -> &'static str {
    match error {
        regular_file::NOT_REGULAR
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::FileTooLarge => {
            "another program has put something there that is not podwire's: move it away, and try again"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the file system is full: `df` and `df -i` show it, `du -x` shows what fills it"
        }
        ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        ErrorKind::PermissionDenied => "it has to belong to root, who calls the plugin, and be writable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_the_wait_for_a_lock_is_bounded() {
        let path = std::env::temp_dir().join(format!("podwire-lock-{}", std::process::id()));
        let held = lock(&path).unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        let file = File::options().write(true).open(&path).unwrap();
        let error = wait(&path, file, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), Kind::Busy, "{error}");
        drop(held);
        let file = File::options().write(true).open(&path).unwrap();
        drop(wait(&path, file, LOCK_TIMEOUT).unwrap());
        fs::remove_file(&path).unwrap();
    }
}
