//! What a container runtime takes for its machine: a host with a namespace of processes, and directories of its own
//! where a runtime keeps things. Everything that is started on it ends with it.

use std::path::Path;
use std::process::Command;

use super::cgroup::Cgroup;
use super::host::Host;
use super::process::Process;
use super::{SOON, image};

/// Where runtimes look for plugins.
pub const PLUGINS: &str = "/opt/cni/bin";

/// Where Debian's package has the reference plugins.
const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

/// The image of every container, as an archive.
pub const IMAGE: &str = "/run/image.tar";

/// How long a runtime's client may take, in seconds: the machine may be drowning.
const PATIENCE: &str = "60";

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// Where it is.
    pub host: Host,
    /// The first process of its namespace of processes, with which all others end.
    _first: Process,
    /// Dropped last: a group goes when nothing is in it.
    cgroup: Cgroup,
}

impl Machine {
    /// Makes a host fit for runtimes: podwire among the plugins, and an image to run.
    ///
    /// # Errors
    /// A sentence that says which step was refused.
    pub fn new(host: &Host) -> Result<Self, String> {
        if std::env::var_os("PODWIRE_ISOLATED").is_some_and(|world| world == "user") {
            return Err("container runtimes need to be root: this world is a user namespace".into());
        }
        // Processes that a runtime leaves to themselves (containerd's shims, podman's conmon) become the first one's
        // children. A shell reaps whatever child ends while it waits.
        let furnish = "for place in /var/lib /opt; do mount -t tmpfs tmpfs $place || exit; done
            mount -t proc proc /proc && mkdir -p /run/tmp && echo furnished && { sleep infinity & wait; }";
        let mut shell = Command::new("unshare");
        shell.args(["--pid", "--fork", "--kill-child=KILL", "sh", "-c", furnish]);
        let first = host.start("the first process of a machine", &mut shell)?;
        first.wait_for("furnished", SOON)?;
        let podwire = super::program("podwire").map_err(|error| error.to_string())?;
        let place = || -> std::io::Result<()> {
            std::fs::create_dir_all(PLUGINS)?;
            std::fs::copy(podwire, Path::new(PLUGINS).join("podwire"))?;
            std::fs::write(IMAGE, image::archive()?)?;
            // A pod gets a copy of it.
            std::fs::write("/etc/resolv.conf", "nameserver 192.0.2.53\n")
        };
        host.enter(place).map_err(|error| format!("furnish {}: {error}", host.name))?;
        host.run("sh", &["-c", &format!("cp {REFERENCE_PLUGINS}/* {PLUGINS}/")])?;
        Ok(Self { host: host.clone(), _first: first, cgroup: Cgroup::new()? })
    }

    /// Its containers' control group, as a path.
    pub fn cgroup(&self) -> String {
        self.cgroup.path()
    }

    /// A program among the machine's processes, which ends when whoever has started it does.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        // The host's /proc is the machine's.
        command.args(["--pid=/proc/1/ns/pid", "--", "setpriv", "--pdeathsig=KILL", program]).args(arguments);
        command.env("TMPDIR", "/run/tmp");
        command
    }

    /// Starts a program among the machine's processes.
    ///
    /// # Errors
    /// A sentence that names the program.
    pub fn start(&self, name: &str, program: &str, arguments: &[&str]) -> Result<Process, String> {
        self.host.start(name, &mut self.command(program, arguments))
    }

    /// Runs a program among the machine's processes to its end; its standard output.
    ///
    /// # Errors
    /// A sentence with what the program said, when it fails or does not end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let limited = [&["--kill-after=1", PATIENCE, program], arguments].concat();
        let line = format!("{program} {}", arguments.join(" "));
        let output = self.host.enter(|| self.command("timeout", &limited).stdin(std::process::Stdio::null()).output());
        let output = output.map_err(|error| format!("{line}: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(format!("$ {line}\n{}: {said}{error}", output.status)) }
    }
}
