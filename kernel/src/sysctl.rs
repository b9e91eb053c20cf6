//! Kernel settings under /proc/sys/net: read, compare, write. They belong to the network namespace of the calling thread.

use std::{fs, io::ErrorKind, path::PathBuf};

use crate::{Error, Result};

/// A setting and the value it should have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Path below /proc/sys, with slashes: device names may contain dots.
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
        match fs::read_to_string(self.file()) {
            Ok(found) => Ok(Some(found.trim() == self.value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::system(format!("read sysctl {}", self.path), error)),
        }
    }

    /// Writes the value, unless it is there already: /proc/sys may be read-only where all is well.
    pub fn set(&self) -> Result<()> {
        if self.holds()? == Some(true) {
            return Ok(());
        }
        fs::write(self.file(), self.value)
            .map_err(|error| Error::system(format!("set sysctl {} to {}", self.path, self.value), error))
    }

    /// As [`Sysctl::set`], where the kernel has such a setting: a kernel without IPv6 has none of its own.
    pub fn set_if_there(&self) -> Result<()> {
        if self.holds()?.is_none() { Ok(()) } else { self.set() }
    }

    fn file(&self) -> PathBuf {
        PathBuf::from("/proc/sys").join(&self.path)
    }
}
