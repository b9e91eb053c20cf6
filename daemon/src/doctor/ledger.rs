//! Where the ledger is: whether the plugin has room there, and nobody but root can write. What is in it is for `leftovers`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use podwire_conf::defaults;

use super::finding::{Finding, FindingKind};

/// With less room than for a few ADDs there is soon none: in bytes, and in files. (A file system may not count files.)
const FEW_BYTES: u64 = 256 * 1024;
const FEW_FILES: u64 = 100;

/// The most places of a directory that are looked at.
const MOST_PLACES: usize = 1000;

/// What a file system has left, and of how much, in bytes and in files.
struct Room {
    bytes: u64,
    files: u64,
    most_files: u64,
}

pub(super) fn look() -> Vec<Finding> {
    let state = Path::new(defaults::RUN_DIRECTORY);
    // Where there is none there has been no ADD.
    let room = statvfs(state).ok().map(|found| Room {
        bytes: found.blocks_available().saturating_mul(found.fragment_size()),
        files: found.files_available(),
        most_files: found.files(),
    });
    room.and_then(|room| full(state, &room)).into_iter().chain(writable(state)).collect()
}

fn full(state: &Path, room: &Room) -> Option<Finding> {
    let what = match room {
        Room { bytes, .. } if *bytes < FEW_BYTES => format!("{bytes} bytes"),
        Room { files, most_files, .. } if *most_files > 0 && *files < FEW_FILES => format!("{files} files"),
        _ => return None,
    };
    let place = state.display().to_string();
    let cause = format!("the file system of {place} has room for {what} only: new pods cannot be given addresses");
    let fix = "df -h /run/podwire; df -i /run/podwire; du -xah /run | sort -h | tail   # remove what fills it, or make it larger";
    Some(Finding::new(FindingKind::LedgerFull, place, cause, fix))
}

/// The first place that others can write.
fn writable(state: &Path) -> Option<Finding> {
    let inside = |directory: &Path| -> Vec<PathBuf> {
        let listed = fs::read_dir(directory).into_iter().flatten().take(MOST_PLACES);
        listed.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let networks = inside(state);
    let parts = networks.iter().flat_map(|network| inside(network));
    let open = [state.to_owned()].into_iter().chain(networks.iter().cloned()).chain(parts).find(|place| {
        // One that goes at this moment is none.
        fs::symlink_metadata(place).is_ok_and(|found| is_open(found.mode(), found.uid(), found.is_symlink()))
    })?;
    let place = open.display().to_string();
    let cause =
        format!("users other than root can write {place}: they can give themselves pods' addresses and host ports");
    let fix = "chown -R root:root /run/podwire && chmod -R go-w /run/podwire";
    Some(Finding::new(FindingKind::LedgerWritable, place, cause, fix))
}

fn is_open(mode: u32, owner: u32, is_link: bool) -> bool {
    owner != 0 || (!is_link && mode & 0o022 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_with_room_for_a_few_adds_is_all_but_full() {
        let found = |bytes, files, most_files| full(Path::new("/run"), &Room { bytes, files, most_files });
        assert_eq!(found(FEW_BYTES, FEW_FILES, 1000), None);
        assert_eq!(found(FEW_BYTES, 0, 0), None, "files are not counted");
        assert!(found(4096, 1000, 1000).unwrap().cause.contains("room for 4096 bytes only"));
        assert!(found(FEW_BYTES, 0, 1000).unwrap().cause.contains("room for 0 files only"));
    }

    #[test]
    fn what_is_not_roots_or_has_rights_for_others_is_open() {
        assert!(is_open(0o40755, 1000, false) && is_open(0o40777, 0, false) && is_open(0o100_664, 0, false));
        assert!(!is_open(0o40755, 0, false) && !is_open(0o120_777, 0, true) && !is_open(0o100_600, 0, false));
    }
}
