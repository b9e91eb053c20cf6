//! A file that others may have put there, read whole up to a limit: what is too long, or is no regular file, is an error that
//! says so. A FIFO would be waited for, a device such as /dev/zero never ends. For the plugin and the daemon.
//!
//! What may not live here: what is in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be opened or read, is no regular file, or is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    whole(file, limit)
}

/// Reads a file of text, as [`read`] does.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let too_long = |size: String| {
        let text = format!("it has {size} bytes, and at most {limit} are read");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if found.len() > limit {
        return Err(too_long(found.len().to_string()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default());
    // Files of /proc have a size of 0, and one that is being written grows.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_long(format!("more than {limit}")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_nothing_else_is_read() {
        let directory = std::env::temp_dir().join(format!("podwire-regular-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let long = read(&path, 4).unwrap_err();
        assert_eq!(long.to_string(), "it has 5 bytes, and at most 4 are read");
        // A file of which only reading tells the size.
        assert_eq!(fs::metadata("/proc/self/status").unwrap().len(), 0);
        let long = read(Path::new("/proc/self/status"), 10).unwrap_err();
        assert_eq!(long.to_string(), "it has more than 10 bytes, and at most 10 are read");
        let fifo = directory.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for other in [fifo.as_path(), Path::new("/dev/zero"), &directory] {
            assert_eq!(read(other, 5).unwrap_err().to_string(), "it is not a regular file", "{}", other.display());
        }
        assert_eq!(read(&directory.join("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::remove_dir_all(&directory).unwrap();
    }
}
