//! Kernel settings under /proc/sys/net: read, compare, write. They belong to the network namespace of the calling
//! thread, or to that of a [`Tree`].

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::netlink::error::{Error, Result};

const ROOT: &str = "/proc/sys";
const IPV4: &str = "net/ipv4/";
const IPV6: &str = "net/ipv6/";

/// The root that was set by [`set_root`].
static CONFIGURED_ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Makes this process use another directory than /proc/sys. In a container /proc/sys is read-only: a bind mount of the
/// host's /proc/sys/net at DIRECTORY/net is writable, whatever network namespace it was made in (a file of
/// /proc/sys/net belongs to the namespace of the process that opens it). To be called once, before the first setting is
/// read; the first call counts.
///
/// # Errors
/// When there is no `net` in it.
pub fn set_root(directory: &Path) -> io::Result<()> {
    let net = directory.join("net");
    std::fs::metadata(&net).map_err(|error| {
        let why = format!("look for the kernel's settings in {}: {error}; mount /proc/sys/net there", net.display());
        io::Error::new(error.kind(), why)
    })?;
    CONFIGURED_ROOT.get_or_init(|| directory.to_owned());
    Ok(())
}

/// The root of the settings.
fn root() -> &'static Path {
    CONFIGURED_ROOT.get().map_or(Path::new(ROOT), PathBuf::as_path)
}

/// A private mount of proc.
///
/// All network namespaces share one directory, /proc/sys/net, and the kernel compares a path through it with its cached
/// entry of each namespace (`proc_sys_compare` of fs/proc/proc_sysctl.c): in the shared proc, a lookup costs more with
/// every pod of the node.
#[derive(Debug)]
pub struct Proc {
    /// `None` when such a mount is not permitted or not supported (before Linux 5.2): then the shared proc is used.
    mount: Option<OwnedFd>,
}

impl Proc {
    /// A private mount for the lifetime of this value.
    pub fn private() -> Self {
        let mount = || {
            let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&context)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        Self { mount: mount().ok() }
    }

    fn directory(&self, path: &str) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match &self.mount {
            Some(mount) => openat(mount, &Path::new("sys").join(path), flags, Mode::empty()),
            None => open(&root().join(path), flags, Mode::empty()),
        }
    }
}

/// The settings of one network namespace, whichever namespace the calling thread is in.
#[derive(Debug)]
pub struct Tree {
    ipv4: OwnedFd,
    /// `None` without IPv6 in the kernel.
    ipv6: Option<OwnedFd>,
}

impl Tree {
    /// The settings of the calling thread's namespace.
    ///
    /// # Errors
    /// When there is no /proc/sys, or it cannot be read.
    pub fn own(proc: &Proc) -> Result<Self> {
        let failed = |path: &str, errno| Error::system(format!("open the sysctls {path}"), errno);
        let ipv6 = match proc.directory(IPV6) {
            Ok(directory) => Some(directory),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(failed(IPV6, errno)),
        };
        Ok(Self { ipv4: proc.directory(IPV4).map_err(|errno| failed(IPV4, errno))?, ipv6 })
    }

    /// As [`Sysctl::holds`].
    pub fn holds(&self, setting: &Sysctl) -> Result<Option<bool>> {
        setting.holds_in(Some(self))
    }

    /// As [`Sysctl::set`].
    pub fn set(&self, setting: &Sysctl) -> Result<()> {
        setting.set_in(Some(self))
    }

    /// As [`Tree::set`], where the kernel has such a setting: a kernel without IPv6 has none of its own.
    pub fn set_if_there(&self, setting: &Sysctl) -> Result<()> {
        setting.write(Some(self)).map(|_| ())
    }
}

/// The number that a sysctl has, by its path below /proc/sys; `None` when the kernel has no such sysctl.
///
/// # Errors
/// When it cannot be read, or is no number.
pub fn number(path: &str) -> Result<Option<u64>> {
    let operation = || format!("read sysctl {path}");
    match std::fs::read_to_string(root().join(path)) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| Error::unreadable(operation(), "no number")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::system(operation(), error)),
    }
}

/// Writes a number to a sysctl, by its path below /proc/sys.
///
/// # Errors
/// The kernel's answer.
pub fn set_number(path: &str, number: u64) -> Result<()> {
    let set = std::fs::write(root().join(path), number.to_string());
    set.map_err(|error| Error::system(format!("set sysctl {path} to {number}"), error))
}

/// A setting and its desired value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl {
    /// Path below /proc/sys (see [`set_root`]), with slashes: device names may contain dots.
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
        self.holds_in(None)
    }

    /// Writes the value, unless the setting has it already: /proc/sys may be read-only where nothing has to change.
    pub fn set(&self) -> Result<()> {
        self.set_in(None)
    }

    /// As [`Sysctl::set`], where the kernel has such a setting: a kernel without IPv6 has none of its own.
    pub fn set_if_there(&self) -> Result<()> {
        self.write(None).map(|_| ())
    }

    fn holds_in(&self, tree: Option<&Tree>) -> Result<Option<bool>> {
        match self.open(tree, OFlag::O_RDONLY) {
            Ok(file) => self.reads(&file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unread(error)),
        }
    }

    fn set_in(&self, tree: Option<&Tree>) -> Result<()> {
        match self.write(tree)? {
            true => Ok(()),
            false => Err(self.unwritten(Errno::ENOENT.into())),
        }
    }

    /// Sets the value; false when there is no such setting.
    fn write(&self, tree: Option<&Tree>) -> Result<bool> {
        let file = match self.open(tree, OFlag::O_RDWR) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return if self.holds_in(tree)? == Some(true) { Ok(true) } else { Err(self.unwritten(error)) };
            }
        };
        if !self.reads(&file)? {
            file.write_all_at(self.value.as_bytes(), 0).map_err(|error| self.unwritten(error))?;
        }
        Ok(true)
    }

    fn open(&self, tree: Option<&Tree>, flags: OFlag) -> io::Result<File> {
        let of_family = tree.and_then(|tree| {
            let families = [(IPV4, Some(&tree.ipv4)), (IPV6, tree.ipv6.as_ref())];
            families.into_iter().find_map(|(prefix, directory)| Some((self.path.strip_prefix(prefix)?, directory)))
        });
        let flags = flags | OFlag::O_CLOEXEC;
        let opened = match of_family {
            Some((_, None)) => Err(Errno::ENOENT),
            Some((path, Some(directory))) => openat(directory, path, flags, Mode::empty()),
            None => open(&root().join(&self.path), flags, Mode::empty()),
        };
        Ok(opened?.into())
    }

    /// Whether a file of /proc/sys has the value. One read: each read of such a file generates its content again.
    fn reads(&self, file: &File) -> Result<bool> {
        let mut content = [0; 64];
        let length = loop {
            match file.read_at(&mut content, 0) {
                Ok(length) => break length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unread(error)),
            }
        };
        Ok(content[..length].trim_ascii() == self.value.as_bytes())
    }

    fn unread(&self, error: io::Error) -> Error {
        Error::system(format!("read sysctl {}", self.path), error)
    }

    fn unwritten(&self, error: io::Error) -> Error {
        Error::system(format!("set sysctl {} to {}", self.path, self.value), error)
    }
}
