//! The instance lock: one daemon per node, since two would undo each other's changes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use podwire_conf::defaults;

/// The lock's file name in the run directory, which is on a tmpfs.
const NAME: &str = "podwired.lock";

/// Held while this daemon runs. The kernel releases it when the process ends.
pub(crate) struct InstanceLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl InstanceLock {
    /// # Errors
    /// Names the process of the other daemon, or the file that cannot be created.
    pub(crate) fn acquire() -> io::Result<Self> {
        let directory = Path::new(defaults::RUN_DIRECTORY);
        let path = directory.join(NAME);
        let failed = |operation: &str, error: io::Error| {
            io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
        };
        fs::create_dir_all(directory).map_err(|error| failed("create the directory of", error))?;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| failed("open", error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0).map_err(|error| failed("write", error))?;
                write!(&mut *lock, "{}", std::process::id()).map_err(|error| failed("write", error))?;
                Ok(Self(lock))
            }
            Err((mut held, Errno::EWOULDBLOCK)) => {
                let mut other = String::new();
                held.read_to_string(&mut other).map_err(|error| failed("read", error))?;
                let why = format!("another podwired runs on this node, process {other}: stop that one first");
                Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
            }
            Err((_, errno)) => Err(failed("lock", errno.into())),
        }
    }
}
