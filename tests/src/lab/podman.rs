//! podman on a machine, with its CNI backend.

use serde_json::Value;

use super::machine::{IMAGE, Machine, PLUGINS};
use super::{image, node};

/// Its configuration, containers.conf(5).
const CONFIGURATION: &str = "/run/containers.conf";

/// Its storage's configuration, containers-storage.conf(5).
const STORAGE: &str = "/run/storage.conf";

/// podman, and the machine it is used on.
#[derive(Debug)]
pub struct Podman {
    /// The machine.
    pub machine: Machine,
}

impl Podman {
    /// Configures podman on a machine, with the one image; `network` is the name in its conflist.
    ///
    /// # Errors
    /// podman's words.
    pub fn new(machine: Machine, network: &str) -> Result<Self, String> {
        let configuration = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{PLUGINS}\"]\n\
             network_config_dir = \"{}\"\ndefault_network = \"{network}\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n\
             [containers]\nlog_driver = \"k8s-file\"\n",
            node::CONFLISTS,
        );
        let storage =
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"/var/lib/containers\"\nrunroot = \"/run/containers\"\n";
        let write = || std::fs::write(CONFIGURATION, configuration).and_then(|()| std::fs::write(STORAGE, storage));
        machine.host.enter(write).map_err(|error| format!("write {CONFIGURATION} and {STORAGE}: {error}"))?;
        let podman = Self { machine };
        podman.run(&["load", "--quiet", "--input", IMAGE])?;
        Ok(podman)
    }

    /// Runs podman; its standard output.
    ///
    /// # Errors
    /// podman's words, when it fails.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let configuration = [format!("CONTAINERS_CONF={CONFIGURATION}"), format!("CONTAINERS_STORAGE_CONF={STORAGE}")];
        let [configuration, storage] = configuration.each_ref().map(String::as_str);
        self.machine.run("env", &[&[configuration, storage, "podman"], arguments].concat())
    }

    /// `podman run --detach` of [`image::SERVER`], with options before the image.
    ///
    /// # Errors
    /// podman's words.
    pub fn run_server(&self, name: &str, options: &[&str]) -> Result<(), String> {
        let cgroup = self.machine.cgroup();
        // The defaults are more than root may raise them to without CAP_SYS_RESOURCE.
        let given = ["--cgroup-parent", &cgroup, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
        let run = ["run", "--detach", "--name", name];
        self.run(&[&run, &given[..], options, &[image::NAME], &image::SERVER].concat()).map(drop)
    }

    /// `podman inspect`: what it knows of a container.
    ///
    /// # Errors
    /// podman's words.
    pub fn inspect(&self, name: &str) -> Result<Value, String> {
        let text = self.run(&["inspect", name])?;
        let all: Value = serde_json::from_str(&text).map_err(|error| format!("podman inspect: {error}: {text}"))?;
        Ok(all[0].clone())
    }
}
