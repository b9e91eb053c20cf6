//! An archive that the kernel unpacks into its first file system: cpio in the form "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Whose files they are is not known here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

/// `S_IFDIR`, `S_IFREG` (uapi/linux/stat.h), with what everybody may do.
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// The name of the last entry.
const END: &str = "TRAILER!!!";

/// An archive that is being written.
pub(crate) struct Archive<W> {
    to: W,
    /// What is in it, each once: the kernel makes no directory by itself.
    names: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(to: W) -> Self {
        Self { to, names: BTreeSet::new() }
    }

    /// A directory at an absolute path, with those that it is in.
    pub(crate) fn directory(&mut self, path: &Path) -> io::Result<()> {
        if let Some(above) = path.parent().filter(|above| above.parent().is_some()) {
            self.directory(above)?;
        }
        self.entry(path, DIRECTORY, &[])
    }

    /// A file at an absolute path, which everybody may read and execute. One that is there already stays.
    pub(crate) fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(above) = path.parent().filter(|above| above.parent().is_some()) {
            self.directory(above)?;
        }
        self.entry(path, FILE, content)
    }

    /// Writes the end; the writer, all of it written.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.write(END, 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        let name = path.to_str().map(|name| name.trim_start_matches('/').to_owned());
        let name = name.ok_or_else(|| io::Error::other(format!("{} is not a text", path.display())))?;
        if self.names.insert(name.clone()) { self.write(&name, mode, content) } else { Ok(()) }
    }

    fn write(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
        // Number, mode, user, group, links, time, size, two devices of two numbers each, size of the name with its end,
        // checksum. Numbers tell files apart that have several names, which none has here.
        let number = size(self.names.len())?;
        let fields = [number, mode, 0, 0, 1, 0, size(content.len())?, 0, 0, 0, 0, size(name.len() + 1)?, 0];
        let mut head = "070701".to_owned();
        fields.iter().try_for_each(|field| write!(head, "{field:08x}")).map_err(io::Error::other)?;
        head.push_str(name);
        head.push('\0');
        for bytes in [head.as_bytes(), content] {
            self.to.write_all(bytes)?;
            self.to.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_entry_once_after_its_directories_and_padded_to_four_bytes() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/a/b/one"), b"12345").unwrap();
        archive.file(Path::new("/a/b/one"), b"another").unwrap();
        archive.directory(Path::new("/a/b")).unwrap();
        let bytes = archive.end().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let entries: Vec<_> = text.split("070701").skip(1).map(|entry| &entry[104..]).collect();
        assert_eq!(entries, ["a\0", "a/b\0\0\0", "a/b/one\0\0\x0012345\0\0\0", "TRAILER!!!\0\0\0\0"]);
        assert_eq!(text.len() % 4, 0);
    }
}
