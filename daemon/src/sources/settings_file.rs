//! The settings file, read once at start. What its keys mean is in `cluster::settings`; nothing is decided here.

use std::path::Path;
use std::{fs, io};

use crate::cluster::settings::Settings;

/// Reads the settings file; the defaults where there is none.
///
/// # Errors
/// A sentence that names the file and what is wrong with it.
pub(crate) fn read(path: Option<&Path>) -> io::Result<Settings> {
    let Some(path) = path else { return Ok(Settings::default()) };
    let failed = |why: String| io::Error::other(format!("settings file {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Settings::parse(&text).map_err(failed)
}
