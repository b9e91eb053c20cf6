//! Installing the plugin's binary in the runtime's plugin directory, atomically, while the old one may be running.
//!
//! A file that is being executed cannot be written to ("text file busy"), and one that is open for writing cannot be
//! executed. So the new one is written to a temporary file in the same directory, synced, closed and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use podwire_conf::defaults;

use crate::node::file_watch::Stamp;

/// The plugin's mode: executable by every user that the runtime runs as.
const MODE: u32 = 0o755;

/// How much of a file is compared or copied at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// How long another installer may take.
const LOCKED_WITHIN: Duration = Duration::from_secs(2);

/// The first bytes of an executable (elf(5)).
const EXECUTABLE: &[u8] = b"\x7fELF";

/// The name of the temporary file. No runtime executes it: plugins are found by their names.
pub(crate) const BESIDE: &str = ".podwire.new";

/// The plugin's binary, and where it is installed.
#[derive(Debug)]
pub(crate) struct Plugin {
    source: PathBuf,
    /// Held open: what is installed is the file as it was opened, even if it is replaced later.
    file: File,
    size: u64,
    directory: PathBuf,
    /// The state of the installed file when it was last equal.
    installed: Option<Stamp>,
}

impl Plugin {
    /// Opens the plugin's binary, by default the one beside this program, for an installation in a directory.
    ///
    /// # Errors
    /// When it does not exist, or is not podwire.
    pub(crate) fn open(source: Option<&Path>, directory: &Path) -> io::Result<Self> {
        let source = match source {
            Some(source) => source.to_owned(),
            None => beside_this_program()?,
        };
        let opened = File::open(&source).and_then(|file| Ok((file.metadata()?.len(), is_podwire(&file)?, file)));
        let (size, is_podwire, file) = opened.map_err(|error| failed("read the plugin", &source, &error))?;
        if !is_podwire {
            return Err(io::Error::other(format!("{} is not podwire, the plugin", source.display())));
        }
        Ok(Self { source, file, size, directory: directory.to_owned(), installed: None })
    }

    /// Where it is installed.
    pub(crate) fn place(&self) -> PathBuf {
        self.directory.join(defaults::PLUGIN)
    }

    /// Installs it, unless it is installed already. Returns whether it was written.
    ///
    /// # Errors
    /// Names the file that could not be written; the installed one is then unchanged.
    pub(crate) fn install(&mut self) -> io::Result<bool> {
        let place = self.place();
        let found = Stamp::of(&place);
        if found.is_some() && found == self.installed {
            return Ok(false);
        }
        let changed = !self.is_installed(&place);
        if changed {
            self.replace(&place).map_err(|error| failed("install", &place, &error))?;
            self.installed = Stamp::of(&place);
        } else {
            // The state before the comparison: a change since then is found next time.
            self.installed = found;
        }
        Ok(changed)
    }

    /// Whether a file is equal to this one. One that cannot be read is not, and is replaced.
    fn is_installed(&self, place: &Path) -> bool {
        let compare = || -> io::Result<bool> {
            let found = fs::symlink_metadata(place)?;
            let installed = found.is_file() && found.size() == self.size && found.permissions().mode() & 0o7777 == MODE;
            Ok(installed && self.same(&File::open(place)?)?)
        };
        compare().unwrap_or(false)
    }

    fn same(&self, other: &File) -> io::Result<bool> {
        let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut offset = 0;
        while offset < self.size {
            let length = usize::try_from(self.size - offset).map_or(CHUNK, |left| left.min(CHUNK));
            self.file.read_exact_at(&mut ours[..length], offset)?;
            other.read_exact_at(&mut theirs[..length], offset)?;
            if ours[..length] != theirs[..length] {
                return Ok(false);
            }
            offset += length as u64;
        }
        Ok(true)
    }

    fn replace(&self, place: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let directory = lock(&self.directory)?;
        let beside = self.directory.join(BESIDE);
        let put = || {
            remove(&beside)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside)?;
            self.copy(&mut file)?;
            file.set_permissions(PermissionsExt::from_mode(MODE))?;
            file.sync_all()?;
            // Closed before it is renamed: a file that is open for writing cannot be executed.
            drop(file);
            fs::rename(&beside, place)?;
            directory.sync_all()
        };
        put().inspect_err(|_| {
            // The first error is reported. A file that cannot be removed is removed by the next installation.
            let _ = fs::remove_file(&beside);
        })
    }

    fn copy(&self, file: &mut File) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0;
        while offset < self.size {
            let length = usize::try_from(self.size - offset).map_or(CHUNK, |left| left.min(CHUNK));
            self.file.read_exact_at(&mut chunk[..length], offset).map_err(|error| {
                let why = format!("{} has become shorter: {error}", self.source.display());
                io::Error::new(error.kind(), why)
            })?;
            file.write_all(&chunk[..length])?;
            offset += length as u64;
        }
        Ok(())
    }
}

/// One installation at a time: two would write the same file. The lock is held for the time of writing a file; a
/// process that holds it longer must not block the daemon.
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    let mut file = File::open(directory)?;
    let deadline = Instant::now() + LOCKED_WITHIN;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => file = again,
            Err((_, Errno::EWOULDBLOCK)) => {
                let why = format!("another process has held the lock of {} for {LOCKED_WITHIN:?}", directory.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
            }
            Err((_, errno)) => return Err(errno.into()),
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Installs the plugin once, and reports it (`podwired install`).
///
/// # Errors
/// As [`Plugin::open`] and [`Plugin::install`].
pub(crate) fn once(source: Option<&Path>, directory: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut plugin = Plugin::open(source, directory)?;
    let changed = plugin.install()?;
    let (source, place) = (plugin.source.display(), plugin.place());
    match changed {
        true => writeln!(out, "installed {source} as {}", place.display()),
        false => writeln!(out, "{} is {source} already: nothing to do", place.display()),
    }
}

/// Whether a file is the plugin, of any version: an executable that contains the plugin's mark.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn is_podwire(file: &File) -> io::Result<bool> {
    let mark: Vec<u8> = defaults::PLUGIN_MARK_BACKWARDS.bytes().rev().collect();
    let mut window = Vec::with_capacity(CHUNK + mark.len());
    let mut executable = false;
    loop {
        let before = window.len();
        if Read::take(file, CHUNK as u64).read_to_end(&mut window)? == 0 {
            return Ok(false);
        }
        executable |= before == 0 && window.starts_with(EXECUTABLE);
        if !executable {
            return Ok(false);
        }
        if window.windows(mark.len()).any(|found| found == mark) {
            return Ok(true);
        }
        // The mark may begin in this chunk and end in the next one.
        window.drain(..window.len().saturating_sub(mark.len()));
    }
}

/// Removes a file. Whether there was one.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn beside_this_program() -> io::Result<PathBuf> {
    let own = std::env::current_exe().map_err(|error| {
        io::Error::new(error.kind(), format!("find the plugin beside this program: {error}; name it with --plugin"))
    })?;
    Ok(own.with_file_name(defaults::PLUGIN))
}

fn failed(operation: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes when the test ends well.
    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("podwired-install-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn mark() -> String {
        defaults::PLUGIN_MARK_BACKWARDS.chars().rev().collect()
    }

    fn executable(before: usize, text: &str) -> Vec<u8> {
        [EXECUTABLE, vec![b'.'; before].as_slice(), text.as_bytes(), b"0.1.0"].concat()
    }

    #[test]
    fn a_podwire_is_known_wherever_in_the_file_its_mark_is() {
        let directory = directory("mark");
        let path = directory.join("file");
        let is = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            is_podwire(&File::open(&path).unwrap()).unwrap()
        };
        let mark = mark();
        for before in [0, 100, CHUNK - 4 - mark.len(), CHUNK - 10, CHUNK, 2 * CHUNK - 5, 3 * CHUNK + 17] {
            assert!(is(&executable(before, &mark)), "{before}");
            assert!(!is(&executable(before, &mark[..mark.len() - 1])), "{before}");
        }
        assert!(!is(mark.as_bytes()), "it is not executable");
        assert!(!is(b""));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_there_is_replaced_when_it_differs_in_anything_and_left_alone_when_not() {
        let directory = directory("replace");
        let (source, to) = (directory.join("source"), directory.join("cni/bin"));
        fs::write(&source, executable(2 * CHUNK, &mark())).unwrap();
        let content = fs::read(&source).unwrap();
        let place = to.join("podwire");
        let once = |expected: &str| {
            let mut output = Vec::new();
            once(Some(&source), &to, &mut output).unwrap();
            assert!(String::from_utf8(output).unwrap().starts_with(expected), "{expected}");
            assert!(fs::read(&place).unwrap() == content);
            let found = fs::symlink_metadata(&place).unwrap();
            assert_eq!((found.is_file(), found.mode() & 0o7777), (true, 0o755));
            assert_eq!(fs::read_dir(&to).unwrap().count(), 1, "something is left beside it");
            found.ino()
        };
        let first = once("installed ");
        let again = format!("{} is ", place.display());
        assert_eq!(once(&again), first);
        let damages: [&dyn Fn(); 6] = [
            &|| fs::write(&place, &content[..CHUNK]).unwrap(),
            &|| fs::write(&place, vec![b'x'; content.len()]).unwrap(),
            &|| fs::set_permissions(&place, PermissionsExt::from_mode(0o644)).unwrap(),
            &|| fs::remove_file(&place).unwrap(),
            &|| {
                fs::rename(&place, directory.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink(directory.join("elsewhere"), &place).unwrap();
            },
            // What an installer left that was killed.
            &|| {
                fs::write(to.join(BESIDE), "half").unwrap();
                fs::write(&place, "").unwrap();
            },
        ];
        for damage in damages {
            damage();
            once("installed ");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_unchanged_file_is_checked_by_its_metadata_only() {
        let directory = directory("stamp");
        let (source, to) = (directory.join("source"), directory.join("bin"));
        fs::write(&source, executable(100, &mark())).unwrap();
        let mut plugin = Plugin::open(Some(&source), &to).unwrap();
        assert!(plugin.install().unwrap());
        assert!(!plugin.install().unwrap());
        fs::write(plugin.place(), "damaged").unwrap();
        assert!(plugin.install().unwrap());
        // What comes in the place of the source is installed by the next start, not by this one.
        fs::write(directory.join("new"), executable(200, &mark())).unwrap();
        fs::rename(directory.join("new"), &source).unwrap();
        fs::remove_file(plugin.place()).unwrap();
        assert!(plugin.install().unwrap());
        assert_eq!(fs::metadata(plugin.place()).unwrap().len(), plugin.size);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn errors_name_the_file_that_cannot_be_read_or_written() {
        let directory = directory("errors");
        let source = directory.join("source");
        let open = |source: &Path| Plugin::open(Some(source), &directory.join("file/bin")).map_err(|e| e.to_string());
        let missing = open(&source).unwrap_err();
        assert!(missing.starts_with("read the plugin /") && missing.contains("No such file"), "{missing}");
        fs::write(&source, "#!/bin/sh\n").unwrap();
        assert!(open(&source).unwrap_err().ends_with("source is not podwire, the plugin"));
        fs::write(&source, executable(0, &mark())).unwrap();
        fs::write(directory.join("file"), "").unwrap();
        let why = open(&source).unwrap().install().unwrap_err().to_string();
        assert!(why.starts_with("install /") && why.contains("file/bin/podwire: "), "{why}");
        let held = lock(&directory).unwrap();
        let why = Plugin::open(Some(&source), &directory).unwrap().install().unwrap_err().to_string();
        assert!(why.contains("podwire: another process has held the lock of /"), "{why}");
        drop(held);
        fs::remove_dir_all(directory).unwrap();
    }
}
