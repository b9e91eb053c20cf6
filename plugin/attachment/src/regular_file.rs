//! Regular files in places where others may have put something else: read whole up to a limit, opened, or made new. What is too
//! long, or is no regular file, is an error that says so. A FIFO would be waited for, a device such as /dev/zero never ends.
//! For the plugin and the daemon.
//!
//! What may not live here: what is in a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// The kind of the error for what is no regular file.
pub const NOT_REGULAR: ErrorKind = ErrorKind::InvalidInput;

/// Opens a file, as the options say, unless it is no regular one.
///
/// # Errors
/// When it cannot be opened, and of the kind [`NOT_REGULAR`] when it is something else.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Opening a FIFO would wait for its other end. For writing, one without a reader answers ENXIO, as does a socket.
    let file = match options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => return Err(not_regular()),
        file => file?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// A new file, empty, to be written and read, in place of what may be left there. What is there is not opened: it is removed,
/// unless it is a directory.
///
/// # Errors
/// When it cannot be made, or what is there cannot be removed.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create_new(true).read(true).write(true);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        file => file,
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be opened or read, is no regular file, or is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    whole(open(path, OpenOptions::new().read(true))?, limit)
}

/// Reads a file of text, as [`read`] does.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn not_regular() -> io::Error {
    io::Error::new(NOT_REGULAR, "it is not a regular file")
}

fn whole(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let found = file.metadata()?;
    let too_long = |size: String| {
        let text = format!("it has {size} bytes, and at most {limit} are read");
        io::Error::new(ErrorKind::FileTooLarge, text)
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
    use std::io::Write;

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
        // Nor is a FIFO waited for that is to be written.
        let writing = open(&fifo, OpenOptions::new().write(true)).unwrap_err();
        assert_eq!(writing.kind(), NOT_REGULAR, "{writing}");
        assert_eq!(read(&directory.join("none"), 5).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), ErrorKind::InvalidData);
        fs::remove_dir_all(&directory).unwrap();
    }
    #[test]
    fn a_new_file_takes_the_place_of_anything_but_a_directory() {
        let directory = std::env::temp_dir().join(format!("podwire-create-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, elsewhere) = (directory.join("writing"), directory.join("elsewhere"));
        fs::write(&elsewhere, "kept").unwrap();
        let left: [&dyn Fn(); 4] = [
            &|| {},
            &|| fs::write(&path, "left").unwrap(),
            &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            &|| std::os::unix::fs::symlink(&elsewhere, &path).unwrap(),
        ];
        for left in left {
            left();
            create(&path).unwrap().write_all(b"new").unwrap();
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
            assert_eq!((read(&path, 3).unwrap(), read(&elsewhere, 4).unwrap()), (b"new".into(), b"kept".into()));
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        assert_eq!(create(&path).unwrap_err().kind(), ErrorKind::IsADirectory);
        fs::remove_dir_all(&directory).unwrap();
    }
}
