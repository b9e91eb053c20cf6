//! A host: a network namespace, with mounts of its own or a node's. What is done on it is done on a thread that has
//! entered both; programs started from there are on it too.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::statvfs;

use super::process::Process;

/// Where hosts find the directory that all hosts of a lab share.
pub const SHARED: &str = "/run/lab";

/// Where the machine's /etc is on a host, to be read.
const MACHINE_ETC: &str = "/run/machine/etc";

/// The network namespace that the machine has begun with; `podwire-isolate` keeps the way to it.
const MACHINE_NETWORK: &str = "/run/machine/proc/1/ns/net";

/// A namespace of the network, and one of mounts. It lives as long as somebody holds this.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name, for messages.
    pub name: String,
    network: Arc<File>,
    mounts: Arc<File>,
}

impl Host {
    /// A host with no device but the loopback, a /run and an /etc of its own, and the shared directory at [`SHARED`].
    ///
    /// # Errors
    /// A sentence that says which step was refused.
    pub fn new(name: &str, shared: &Path) -> Result<Self, String> {
        let made = on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(|errno| step("leave", errno))?;
            furnish(shared)?;
            Self::current(name)
        });
        made.map_err(|why| format!("make host {name}: {why}"))
    }

    /// The machine itself as a host, with a /run and an /etc of its own: for what the kernel has only once, and in its first
    /// namespace. Only a virtual machine (`podwire-stock`) can be had so.
    ///
    /// # Errors
    /// A sentence that says which step was refused.
    pub fn machine(name: &str, shared: &Path) -> Result<Self, String> {
        if std::env::var_os("PODWIRE_STOCK").is_none() {
            return Err("this would touch the machine's own network: scripts/test plays it in a virtual machine".into());
        }
        let made = on_thread(|| {
            let network = File::open(MACHINE_NETWORK).map_err(|error| step(MACHINE_NETWORK, error))?;
            setns(network, CloneFlags::CLONE_NEWNET).map_err(|errno| step("enter the first namespace", errno))?;
            unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| step("leave", errno))?;
            furnish(shared)?;
            Self::current(name)
        });
        made.map_err(|why| format!("take the machine for host {name}: {why}"))
    }

    /// A pod of this host: a network namespace at /run/netns/NAME, the host's mounts. As a container runtime does it.
    ///
    /// # Errors
    /// A sentence that says which step was refused.
    pub fn pod(&self, name: &str) -> Result<(Self, PathBuf), String> {
        let path = Path::new("/run/netns").join(name);
        let made = self.enter(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| step("leave the node's network", errno))?;
            fs::create_dir_all("/run/netns").map_err(|error| step("create /run/netns", error))?;
            File::create(&path).map_err(|error| step("create the namespace's file", error))?;
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| step("bind", errno))?;
            Self::current(name)
        });
        made.map(|pod| (pod, path)).map_err(|why| format!("make pod {name} on {}: {why}", self.name))
    }

    /// A pod that a container runtime has made: the network namespace at `path`, this host's mounts.
    ///
    /// # Errors
    /// When there is none.
    pub fn found_pod(&self, name: &str, path: &Path) -> Result<Self, String> {
        let network = self.enter(|| File::open(path));
        let network = network.map_err(|error| format!("open {} on {}: {error}", path.display(), self.name))?;
        Ok(Self { name: name.into(), network: Arc::new(network), mounts: self.mounts.clone() })
    }

    /// Takes the pod's namespace at `path` away from the host, as a container runtime does when the pod has ended.
    ///
    /// # Errors
    /// A sentence that says which step was refused.
    pub fn remove_pod(&self, path: &Path) -> Result<(), String> {
        self.enter(|| {
            nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).map_err(|errno| step("unmount", errno))?;
            fs::remove_file(path).map_err(|error| step("remove", error))
        })
        .map_err(|why: String| format!("remove {} from {}: {why}", path.display(), self.name))
    }

    /// The same host with mounts of its own, which `change` changes: for whoever is on it, and nobody else.
    ///
    /// # Errors
    /// A sentence that says which step was refused.
    pub fn apart(&self, change: impl FnOnce() -> Result<(), String> + Send) -> Result<Self, String> {
        let made = self.enter(|| {
            unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| step("leave the host's mounts", errno))?;
            change()?;
            Self::current(&self.name)
        });
        made.map_err(|why| format!("change mounts on {}: {why}", self.name))
    }

    /// Where the calling thread is, as a host.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn here(name: &str) -> Result<Self, String> {
        Self::current(name).map_err(|why| format!("take hold of {name}: {why}"))
    }

    /// Where a process is, as a host.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of_process(name: &str, process: u32) -> Result<Self, String> {
        let open = |namespace: &str| {
            let path = format!("/proc/{process}/ns/{namespace}");
            File::open(&path).map(Arc::new).map_err(|error| format!("enter {name}: {path}: {error}"))
        };
        Ok(Self { name: name.into(), network: open("net")?, mounts: open("mnt")? })
    }

    fn current(name: &str) -> Result<Self, String> {
        let open = |path: &str| File::open(path).map(Arc::new).map_err(|error| step(&format!("open {path}"), error));
        let (network, mounts) = (open("/proc/thread-self/ns/net")?, open("/proc/thread-self/ns/mnt")?);
        Ok(Self { name: name.into(), network, mounts })
    }

    /// The open network namespace.
    pub fn network(&self) -> &File {
        &self.network
    }

    /// Does `work` on the host.
    ///
    /// # Panics
    /// When the host cannot be entered, which the lab has made so that it can, or when the work does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            let enter = || -> nix::Result<()> {
                // A thread that shares its root directory with others cannot change its mounts.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&*self.mounts, CloneFlags::CLONE_NEWNS)?;
                setns(&*self.network, CloneFlags::CLONE_NEWNET)
            };
            enter().unwrap_or_else(|errno| panic!("enter host {}: {errno}", self.name));
            work()
        })
    }

    /// Starts a program on the host.
    ///
    /// # Errors
    /// A sentence that names the program.
    pub fn start(&self, name: &str, command: &mut Command) -> Result<Process, String> {
        self.enter(|| Process::start(name, command)).map_err(|why| format!("on {}: {why}", self.name))
    }

    /// Runs a program on the host to its end; its standard output.
    ///
    /// # Errors
    /// A sentence with what the program said, when it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let line = format!("on {}: {program} {}", self.name, arguments.join(" "));
        let output = self.enter(|| Command::new(program).args(arguments).output());
        let output = output.map_err(|error| format!("{line}: {error}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let (said, error) = (text(output.stdout), text(output.stderr));
        if output.status.success() { Ok(said) } else { Err(format!("{line}: {}: {said}{error}", output.status)) }
    }
}

/// Does `work` on a thread of its own, so that what it enters it alone is in.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let joined = thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A /run and an /etc of the host's own, and the shared directory. What the machine has in /etc is there to be read (the
/// machine's programs look for it), save for its network's own files and for those of a podwire that is installed there.
fn furnish(shared: &Path) -> Result<(), String> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|errno| step("make private", errno))?;
    // Held open: the new /run and /etc hide them.
    let open = |path: &Path| File::open(path).map_err(|error| step(&path.display().to_string(), error));
    let (held_shared, held_etc) = (open(shared)?, open(Path::new("/etc"))?);
    for place in ["/run", "/etc"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).map_err(|errno| step(place, errno))?;
    }
    for (held, place) in [(&held_shared, SHARED), (&held_etc, MACHINE_ETC)] {
        fs::create_dir_all(place).map_err(|error| step(place, error))?;
        let source = format!("/proc/thread-self/fd/{}", held.as_raw_fd());
        mount(Some(source.as_str()), place, none, MsFlags::MS_BIND, none).map_err(|errno| step(place, errno))?;
    }
    // Flags that a mount has cannot be taken away from it in a user namespace: they are given again.
    let kept = statvfs(MACHINE_ETC).map_err(|errno| step(MACHINE_ETC, errno))?.flags().bits();
    let flags = MsFlags::from_bits_truncate(kept) | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(none, MACHINE_ETC, none, flags, none).map_err(|errno| step("protect the machine's /etc", errno))?;
    for entry in fs::read_dir(MACHINE_ETC).map_err(|error| step(MACHINE_ETC, error))? {
        let name = entry.map_err(|error| step(MACHINE_ETC, error))?.file_name();
        if !["cni", "hosts", "podwire", "resolv.conf"].iter().any(|own| name == *own) {
            let (target, link) = (Path::new(MACHINE_ETC).join(&name), Path::new("/etc").join(&name));
            symlink(target, &link).map_err(|error| step(&link.display().to_string(), error))?;
        }
    }
    // A new namespace has the machine's own settings, which are no part of any scene.
    for setting in ["ip_forward", "conf/all/rp_filter", "conf/default/rp_filter"] {
        let path = Path::new("/proc/sys/net/ipv4").join(setting);
        fs::write(&path, "0").map_err(|error| step(&path.display().to_string(), error))?;
    }
    fs::write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n").map_err(|error| step("/etc/hosts", error))
}

fn step(what: &str, error: impl Into<io::Error>) -> String {
    format!("{what}: {}", error.into())
}
