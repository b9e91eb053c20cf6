//! How long ADDs took, for the metrics: four bytes for each, appended to a file by one system call. So there is no lock to
//! wait for, and concurrent writers lose nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

/// The file's name in a network's directory.
const NAME: &str = "durations";

/// A file of this size, in bytes, is truncated: the counters start over, as after a reboot.
const FULL: u64 = 256 * 1024;

/// Appends the duration of an ADD to the file in a network's directory.
///
/// # Errors
/// When the file cannot be written.
pub fn append(network: &Path, took: Duration) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(network.join(NAME))?;
    if file.metadata()?.len() >= FULL {
        file.set_len(0)?;
    }
    let microseconds = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
    file.write_all(&microseconds.to_be_bytes())
}

/// The durations in the file of a network's directory, in microseconds, the earliest first.
///
/// # Errors
/// When the file cannot be read. A missing file is an empty list.
pub fn read(network: &Path) -> io::Result<Vec<u32>> {
    let bytes = match fs::read(network.join(NAME)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes?,
    };
    Ok(bytes.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]])).collect())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn concurrent_durations_are_all_kept_and_a_full_file_is_truncated() {
        let directory = std::env::temp_dir().join(format!("podwire-durations-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert!(read(&directory).unwrap().is_empty());
        thread::scope(|scope| {
            for thread in 0..8 {
                let directory = &directory;
                scope.spawn(move || {
                    (0..100).for_each(|time| append(directory, Duration::from_micros(thread * 100 + time)).unwrap());
                });
            }
        });
        let mut found = read(&directory).unwrap();
        found.sort_unstable();
        assert_eq!(found, (0..800).collect::<Vec<_>>());
        fs::write(directory.join(NAME), vec![0; 256 * 1024]).unwrap();
        append(&directory, Duration::from_secs(1)).unwrap();
        append(&directory, Duration::from_secs(10_000)).unwrap();
        assert_eq!(read(&directory).unwrap(), [1_000_000, u32::MAX]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
