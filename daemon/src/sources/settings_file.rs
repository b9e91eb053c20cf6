//! The settings file, read once at start. What its keys mean is in `cluster::settings`; nothing is decided here.

use std::io;
use std::path::{Path, PathBuf};

use podwire_attachment::regular_file;
use thiserror::Error;

use crate::cluster::settings::{Settings, SettingsError};

/// The largest settings file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// What happens now, and the way out.
const NOW: &str = "podwired does not start with this file, and leaves what it has made as it is: correct it, then start podwired again";

/// Why the settings file cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("read settings file {}: {error} ({})", path.display(), NOW)]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A key or a value of it is wrong.
    #[error("settings file {}: {error} ({})", path.display(), NOW)]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Which one, and how.
        error: SettingsError,
    },
}

/// The file with settings that do not go with where the nodes come from; the defaults have no file.
pub(crate) fn wrong(path: Option<&Path>, error: SettingsError) -> io::Error {
    match path {
        Some(path) => io::Error::other(FileError::Wrong { path: path.into(), error }),
        None => io::Error::other(error),
    }
}

/// Reads the settings file; the defaults where there is none.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(path: Option<&Path>) -> Result<Settings, FileError> {
    let Some(path) = path else { return Ok(Settings::default()) };
    let text =
        regular_file::read_text(path, LARGEST).map_err(|error| FileError::Unreadable { path: path.into(), error })?;
    Settings::parse(&text).map_err(|error| FileError::Wrong { path: path.into(), error })
}
