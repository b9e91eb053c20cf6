//! One daemon a node: two would undo one another's work.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use podwire_conf::defaults;

/// The lock's name in podwire's run directory: on a tmpfs, like all that ends with the node's uptime.
const NAME: &str = "podwired.lock";

/// The proof that no other daemon runs here, while it lasts. The kernel takes it away with the process.
pub(crate) struct Only(#[expect(dead_code, reason = "held, not looked at")] Flock<File>);

impl Only {
    /// # Errors
    /// A sentence that names the process of the other daemon, or the file that cannot be made.
    pub(crate) fn claim() -> io::Result<Self> {
        let directory = Path::new(defaults::RUN_DIRECTORY);
        let path = directory.join(NAME);
        let failed =
            |wish: &str, error: io::Error| io::Error::new(error.kind(), format!("{wish} {}: {error}", path.display()));
        fs::create_dir_all(directory).map_err(|error| failed("make the directory of", error))?;
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
