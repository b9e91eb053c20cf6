//! Kernel settings under /proc/sys/net: read, compare, write. They belong to the network namespace of the calling thread.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::{Error, Result};

/// Where the settings are.
const SYSCTLS: &str = "/proc/sys";

/// Where they are for this process, when it has been told another place.
static ELSEWHERE: OnceLock<PathBuf> = OnceLock::new();

/// Has this process find the settings below another directory than /proc/sys. In a container /proc/sys is read-only: a
/// bind mount of the host's /proc/sys/net at DIRECTORY/net can be written to, whatever network namespace it was made in (a
/// file of /proc/sys/net is that of the namespace of whoever opens it). To be called once, before the first setting is
/// looked at; the first call counts.
///
/// # Errors
/// When there is no `net` in it.
pub fn find_below(directory: &Path) -> io::Result<()> {
    let net = directory.join("net");
    std::fs::metadata(&net).map_err(|error| {
        let why = format!("look for the kernel's settings in {}: {error}; mount /proc/sys/net there", net.display());
        io::Error::new(error.kind(), why)
    })?;
    ELSEWHERE.get_or_init(|| directory.to_owned());
    Ok(())
}

/// A setting and the value it should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Path below /proc/sys (see [`find_below`]), with slashes: device names may contain dots.
    pub path: String,
    /// The value, as the file shows it.
    pub value: &'static str,
}

impl Sysctl {
    /// A setting of one device (`all` and `default` are not devices).
    pub fn of_device(family: &str, device: &str, name: &str, value: &'static str) -> Self {
        Self { path: format!("net/{family}/conf/{device}/{name}"), value }
    }

    /// Whether the kernel has this value; `None` when it has no such setting, as without IPv6.
    pub fn holds(&self) -> Result<Option<bool>> {
        match File::open(self.file()) {
            Ok(file) => self.reads(&file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unread(error)),
        }
    }

    /// Writes the value, unless it is there already: /proc/sys may be read-only where all is well.
    pub fn set(&self) -> Result<()> {
        match self.write()? {
            true => Ok(()),
            false => Err(self.unwritten(Errno::ENOENT.into())),
        }
    }

    /// As [`Sysctl::set`], where the kernel has such a setting: a kernel without IPv6 has none of its own.
    pub fn set_if_there(&self) -> Result<()> {
        self.write().map(|_| ())
    }

    /// Whether there is such a setting; then it has the value.
    fn write(&self) -> Result<bool> {
        let file = match OpenOptions::new().read(true).write(true).open(self.file()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return if self.holds()? == Some(true) { Ok(true) } else { Err(self.unwritten(error)) };
            }
        };
        if !self.reads(&file)? {
            file.write_all_at(self.value.as_bytes(), 0).map_err(|error| self.unwritten(error))?;
        }
        Ok(true)
    }

    /// Whether a file of /proc/sys has the value. It is read at once: each read of such a file makes its content anew.
    fn reads(&self, file: &File) -> Result<bool> {
        let mut content = [0; 64];
        let length = loop {
            match file.read_at(&mut content, 0) {
                Ok(length) => break length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unread(error)),
            }
        };
        Ok(content[..length].trim_ascii() == self.value.as_bytes())
    }

    fn unread(&self, error: io::Error) -> Error {
        Error::system(format!("read sysctl {}", self.path), error)
    }

    fn unwritten(&self, error: io::Error) -> Error {
        Error::system(format!("set sysctl {} to {}", self.path, self.value), error)
    }

    fn file(&self) -> PathBuf {
        ELSEWHERE.get().map_or(Path::new(SYSCTLS), PathBuf::as_path).join(&self.path)
    }
}
