//! A Kubernetes on this machine: what is where, and who has which address. Those who bring it up (`podwire-kube`) and
//! those who look at it (the scenes of `e2e/`) agree here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::host::Host;

/// Where it is unless PODWIRE_KUBE_STATE says otherwise.
const DIRECTORY: &str = "/tmp/podwire-kube";

/// The world's own number on the network of the nodes: the control plane, and whoever is outside of the cluster.
const WORLD: u16 = 1;

/// The port of the API server, TCP.
pub const API_PORT: u16 = 6443;

/// Addresses of Services.
pub const SERVICES: &str = "10.96.0.0/16,fd00:10:96::/112";

/// Addresses of pods.
pub const PODS: &str = "10.244.0.0/16,fd00:10:244::/56";

/// The Service address of the cluster's DNS.
pub const DNS: &str = "10.96.0.10";

/// Where everything of one Kubernetes is.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory that has all of it.
    pub root: PathBuf,
}

impl Place {
    /// The one that PODWIRE_KUBE_STATE names, or the one place for all who say nothing.
    pub fn named() -> Self {
        let named = env::var_os("PODWIRE_KUBE_STATE").map_or_else(|| DIRECTORY.into(), PathBuf::from);
        // Whoever is told of it is in another directory.
        Self { root: std::path::absolute(&named).unwrap_or(named) }
    }

    /// The file with the process id of the world's first process, as the machine has it.
    pub fn world(&self) -> PathBuf {
        self.root.join("world")
    }

    /// Who is up, as the world sees it: what belongs to a node, or to the control plane.
    pub fn of(&self, owner: &str) -> PathBuf {
        self.root.join(owner)
    }

    /// What a process has said.
    pub fn log(&self, owner: &str, program: &str) -> PathBuf {
        self.of(owner).join(format!("{program}.log"))
    }

    /// The file with the id of a process, among the processes of its owner; the owner's own is called `init`, among those
    /// of the world.
    pub fn process(&self, owner: &str, program: &str) -> PathBuf {
        self.of(owner).join(format!("{program}.id"))
    }

    /// While this file is there, a process that has ended is not started again.
    pub fn held(&self, owner: &str, program: &str) -> PathBuf {
        self.of(owner).join(format!("{program}.held"))
    }

    /// What lasts on a node when its processes and its network do not: its disk.
    pub fn disk(&self, node: &str) -> PathBuf {
        self.of(node).join("disk")
    }

    /// The file with a node's number, by which it gets its addresses when it starts.
    pub fn number(&self, node: &str) -> PathBuf {
        self.of(node).join("number")
    }

    /// Archives of images that every node imports.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Certificates, tokens and kubeconfigs.
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials")
    }

    /// The kubeconfig of somebody.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.credentials().join(format!("{who}.kubeconfig"))
    }

    /// The link to the directory with the programs of Kubernetes: the first thing of a cluster that is there.
    pub fn programs(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// A program of Kubernetes.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The group of processes that everything with containers is below, in every hierarchy of control groups.
    ///
    /// # Errors
    /// When the file that names it cannot be read.
    pub fn control_group(&self) -> Result<String, String> {
        read(&self.root.join("control-group"))
    }

    /// Somebody's process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process_id(&self, owner: &str, program: &str) -> Result<u32, String> {
        let path = self.process(owner, program);
        read(&path)?.parse().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A node as it is now, for whoever is in the world.
    ///
    /// # Errors
    /// When it is not up.
    pub fn node(&self, name: &str) -> Result<Host, String> {
        Host::of_process(name, self.process_id(name, "init")?)
    }

    /// kubectl as the administrator, for whoever is in the world.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.program("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig("administrator")).stdin(Stdio::null());
        // It keeps what it has learnt of the API.
        command.env("HOME", self.credentials());
        command
    }

    /// What kubectl answers.
    ///
    /// # Errors
    /// What it says instead.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.kubectl().args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", self.program("kubectl").display()))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let (said, error) = (text(output.stdout), text(output.stderr));
        if output.status.success() { Ok(said) } else { Err(format!("kubectl {}: {said}{error}", arguments.join(" "))) }
    }

    /// What kubectl answers, as JSON.
    ///
    /// # Errors
    /// What it says instead.
    pub fn look(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.ask(&[arguments, &["--output=json"]].concat())?;
        serde_json::from_str(&text).map_err(|error| format!("kubectl {}: {error}: {text}", arguments.join(" ")))
    }
}

/// The words of a small file.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| format!("{}: {error}", path.display()))
}

/// The end of what a process has said, where `lines` are enough to explain something.
pub fn last_words(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let said: Vec<_> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(400).collect::<String>();
    let last: Vec<_> = said[said.len().saturating_sub(lines)..].iter().map(cut).collect();
    format!("--- {}\n{}\n", log.display(), last.join("\n"))
}

/// The name of a node.
pub fn name(number: u16) -> String {
    format!("node-{number}")
}

/// A node's addresses.
pub fn addresses(number: u16) -> [IpNetwork; 2] {
    on_network(number + 10)
}

/// The world's addresses.
pub fn world_addresses() -> [IpNetwork; 2] {
    on_network(WORLD)
}

fn on_network(number: u16) -> [IpNetwork; 2] {
    let four = std::net::Ipv4Addr::new(10, 89, 0, u8::try_from(number).unwrap_or(u8::MAX));
    let six = std::net::Ipv6Addr::new(0xfd00, 0x10, 0x89, 0, 0, 0, 0, number);
    // Both lengths are lengths of a prefix.
    [IpNetwork::new(four.into(), 24), IpNetwork::new(six.into(), 64)].map(|network| match network {
        Ok(network) => network,
        Err(_) => unreachable!("24 and 64 are lengths of prefixes"),
    })
}
