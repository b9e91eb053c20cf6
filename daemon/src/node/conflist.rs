//! The conflist on disk, whose presence makes the node Ready. It is written once the overlay is up and no step up to there
//! has a problem; what is wrong with the pods and the fast path, which come after it, does not hold it back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use podwire_attachment::regular_file;
use podwire_conf::{Network, conflist, defaults};

/// The conflist's mode: world-readable, since it has no secret; writable by root only.
const MODE: u32 = 0o644;

/// Makes the conflist in `directory` equal to the network: written under a temporary name that no runtime reads,
/// synced, renamed. Returns whether it was written.
///
/// # Errors
/// When the file cannot be written; names the file.
pub fn write(directory: &Path, network: &Network) -> io::Result<bool> {
    let path = directory.join(defaults::CONFLIST);
    let wanted = conflist::render(network)?;
    let right = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.mode() & 0o7777 == MODE);
    if right && regular_file::read(&path, wanted.len() as u64).is_ok_and(|found| found == wanted.as_bytes()) {
        return Ok(false);
    }
    let beside = directory.join(format!(".{}.new", defaults::CONFLIST));
    let store = || {
        fs::create_dir_all(directory)?;
        let mut file = regular_file::create(&beside)?;
        file.write_all(wanted.as_bytes())?;
        file.set_permissions(PermissionsExt::from_mode(MODE))?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    };
    store().map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))?;
    Ok(true)
}
