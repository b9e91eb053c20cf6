//! The ledger's dealings with files: read, replaced whole, removed, locked. What is in them is said elsewhere.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Kind};

/// How long a lock may be waited for. Its holders need far less than a millisecond, so this is a machine that stands
/// still, and the runtime does well to try again later.
const LOCKED_WITHIN: Duration = Duration::from_secs(30);

/// The content of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Whether there is a file or a directory. That it cannot be told is an error, not a no.
pub(super) fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(|error| failed("look at", path, &error))
}

/// Writes beside and renames: a reader sees the old content or the new. Not synced: this is a tmpfs, and what a power cut
/// takes it takes whole. Answers the file, which can be read and written.
pub(super) fn replace(path: &Path, beside: &Path, content: &[u8]) -> Result<File, Error> {
    let write = || {
        let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(beside)?;
        file.write_all(content)?;
        fs::rename(beside, path)?;
        Ok(file)
    };
    write().map_err(|error| {
        // The first error is the answer. What cannot be removed either, the next who writes here replaces.
        let _ = fs::remove_file(beside);
        failed("write", path, &error)
    })
}

/// Removes a file, which may have gone already.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

/// The names in a directory; none where there is no directory.
pub(super) fn list(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", path, &error)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| -> Result<String, Error> {
        let entry = entry.map_err(|error| failed("list", path, &error))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// Waits for the lock on a file, which is made where there is none. The kernel frees it when its holder dies.
pub(super) fn lock(path: &Path) -> Result<Flock<File>, Error> {
    match attempt(path)? {
        Ok(lock) => Ok(lock),
        Err(file) => wait(path, file, LOCKED_WITHIN),
    }
}

/// The lock on a file, unless somebody has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Flock<File>>, Error> {
    Ok(attempt(path)?.ok())
}

fn attempt(path: &Path) -> Result<Result<Flock<File>, File>, Error> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| failed("open", path, &error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(lock)),
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(Err(file)),
        Err((_, errno)) => Err(failed("lock", path, &errno.into())),
    }
}

/// The kernel has no time limit for this wait: another thread waits, and is given up on. It holds nothing then but its
/// place in the queue, and ends with the process.
fn wait(path: &Path, mut file: File, limit: Duration) -> Result<Flock<File>, Error> {
    let (told, tell) = channel();
    let waiter = thread::spawn(move || {
        let locked = loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Err((returned, Errno::EINTR)) => file = returned,
                other => break other.map_err(|(_, errno)| errno),
            }
        };
        // Nobody listens any more when it came too late.
        let _ = told.send(locked);
    });
    match tell.recv_timeout(limit) {
        Ok(locked) => {
            // Whoever has the lock may fork, for which no other thread may be there.
            let _ = waiter.join();
            locked.map_err(|errno| failed("lock", path, &errno.into()))
        }
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let message = format!("lock {}: somebody has held it for {} s", path.display(), limit.as_secs());
            Err(Error::new(Kind::Busy, message, "see who with `fuser -v` or in /proc/locks"))
        }
    }
}

/// A failure of the file system: what was wanted of which file.
pub(super) fn failed(wish: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::io(format!("{wish} {}", path.display()), error)
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
        let failure = wait(&path, file, Duration::from_millis(20)).unwrap_err();
        assert_eq!(failure.kind(), Kind::Busy, "{failure}");
        drop(held);
        let file = File::options().write(true).open(&path).unwrap();
        drop(wait(&path, file, LOCKED_WITHIN).unwrap());
        fs::remove_file(&path).unwrap();
    }
}
