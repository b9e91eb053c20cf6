//! A node: a host with podwired, and the pods that a runtime has made on it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::host::{Host, SHARED};
use super::process::Process;
use super::runtime::{self, Call};
use super::{SOON, membership, program};

/// Where runtimes read network configurations.
pub const CONFLISTS: &str = "/etc/cni/net.d";

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    /// Its number in the lab's plan.
    pub number: u16,
    /// Where it is.
    pub host: Host,
    /// Its daemon, while it runs.
    pub daemon: Option<Process>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What its daemon is started with beside its name and the membership.
    pub arguments: Vec<String>,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// Where it is; its name is the container's id.
    pub host: Host,
    /// The path of its network namespace on the node.
    pub netns: PathBuf,
    /// Its addresses, as the plugin has answered.
    pub addresses: Vec<IpAddr>,
    /// What runs in it; it ends with the pod.
    pub programs: Vec<Process>,
}

impl Node {
    pub(super) fn new(number: u16, host: Host) -> Self {
        Self { number, host, daemon: None, pods: Vec::new(), arguments: Vec::new() }
    }

    /// Its address on the underlay, IPv4.
    pub fn address(&self) -> IpAddr {
        membership::underlay(self.number)[0].ip()
    }

    /// Starts podwired.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(&mut self) -> Result<(), String> {
        let mut command = Command::new(program("podwired").map_err(|error| error.to_string())?);
        let nodes = format!("{SHARED}/nodes.toml");
        command.args(["run", "--node-name", &self.host.name, "--nodes", &nodes]).args(&self.arguments);
        self.daemon = Some(self.host.start(&format!("podwired of {}", self.host.name), &mut command)?);
        Ok(())
    }

    /// Waits until podwired says that it is ready.
    ///
    /// # Errors
    /// What it has said instead.
    pub fn wait_ready(&self) -> Result<(), String> {
        let daemon = self.daemon.as_ref().ok_or_else(|| format!("no podwired runs on {}", self.host.name))?;
        daemon.wait_for("ready", SOON).map(drop)
    }

    /// The configuration that a runtime gives the plugin.
    ///
    /// # Errors
    /// When there is no conflist.
    pub fn configuration(&self) -> Result<Value, String> {
        runtime::configuration(&self.host, CONFLISTS)
    }

    /// Makes a pod and attaches it.
    ///
    /// # Errors
    /// The plugin's words, when it refuses.
    pub fn add_pod(&mut self, name: &str) -> Result<&mut Pod, String> {
        self.add_pod_as(name, |call| call)
    }

    /// Makes a pod and attaches it, by a call that the runtime makes in its own way.
    ///
    /// # Errors
    /// The plugin's words, when it refuses.
    pub fn add_pod_as(&mut self, name: &str, own_way: impl FnOnce(Call) -> Call) -> Result<&mut Pod, String> {
        let configuration = self.configuration()?;
        let (host, netns) = self.host.pod(name)?;
        super::wire::set_up(&host, "lo")?;
        let call = own_way(Call::new("ADD", name, &netns, &configuration));
        let result = call.execute(&self.host)?.result();
        let result = result.map_err(|why| format!("ADD of {name} on {}: {why}", self.host.name))?;
        let addresses = result["ips"].as_array().into_iter().flatten().filter_map(|entry| {
            let (address, _) = entry["address"].as_str()?.split_once('/')?;
            address.parse().ok()
        });
        self.pods.push(Pod { host, netns, addresses: addresses.collect(), programs: Vec::new() });
        self.pods.last_mut().ok_or_else(|| "no pod".into())
    }

    /// Ends what runs in a pod, detaches it, and removes its namespace.
    ///
    /// # Errors
    /// The plugin's words, when it refuses.
    pub fn remove_pod(&mut self, name: &str) -> Result<(), String> {
        let place = self.pods.iter().position(|pod| pod.host.name == name);
        let mut pod = self.pods.swap_remove(place.ok_or_else(|| format!("no pod {name} on {}", self.host.name))?);
        pod.programs.clear();
        let answer = Call::new("DEL", name, &pod.netns, &self.configuration()?).execute(&self.host)?;
        answer.result().map_err(|why| format!("DEL of {name} on {}: {why}", self.host.name))?;
        self.host.remove_pod(&pod.netns)
    }

    /// A pod by its name.
    ///
    /// # Panics
    /// When there is none: the caller has made it.
    #[track_caller]
    pub fn pod(&self, name: &str) -> &Pod {
        let found = self.pods.iter().find(|pod| pod.host.name == name);
        found.unwrap_or_else(|| panic!("no pod {name} on {}", self.host.name))
    }
}

impl Pod {
    /// Its address of the family of `like`.
    ///
    /// # Panics
    /// When it has none: the lab's pods have both.
    #[track_caller]
    pub fn address(&self, like: IpAddr) -> IpAddr {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
        *found.unwrap_or_else(|| panic!("pod {} has no address like {like}", self.host.name))
    }

    /// Starts a program in it, which ends with it.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(&mut self, command: &mut Command) -> Result<&Process, String> {
        let process = self.host.start(&self.host.name, command)?;
        self.programs.push(process);
        self.programs.last().ok_or_else(|| "no program".into())
    }
}
