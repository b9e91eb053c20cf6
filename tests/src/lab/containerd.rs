//! containerd on a machine, spoken to through its CRI by crictl, as kubelet would, and by ctr.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::host::Host;
use super::machine::{IMAGE, Machine, PLUGINS};
use super::process::Process;
use super::{SOON, image};

/// Its socket.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// Its configuration.
const CONFIGURATION: &str = "/run/containerd.toml";

/// How many lines of its log explain a failure, and how much of each: one of them is its whole configuration.
const LAST_WORDS: (usize, usize) = (24, 400);

/// containerd, and the machine it runs on.
#[derive(Debug)]
pub struct Containerd {
    /// The machine.
    pub machine: Machine,
    daemon: Process,
}

/// A pod as crictl's `inspectp` shows it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its id: the CNI's container id.
    pub id: String,
    /// Its addresses, the one that the runtime calls its first in front.
    pub addresses: Vec<std::net::IpAddr>,
    /// The path of its network namespace.
    pub netns: PathBuf,
}

impl Containerd {
    /// Starts containerd on a machine, with the one image, and waits until its CRI is ready: there has to be a network
    /// configuration.
    ///
    /// # Errors
    /// What it has said instead.
    pub fn start(machine: Machine) -> Result<Self, String> {
        // This machine's root may lack CAP_SYS_RESOURCE, without which no process may be made dearer than its parent.
        let configuration = format!(
            "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n\
             restrict_oom_score_adj = true\ndisable_apparmor = true\nsandbox_image = \"{}\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
             bin_dir = \"{PLUGINS}\"\nconf_dir = \"{}\"\n",
            image::NAME,
            super::node::CONFLISTS,
        );
        let written = machine.host.enter(|| std::fs::write(CONFIGURATION, configuration));
        written.map_err(|error| format!("write {CONFIGURATION}: {error}"))?;
        let daemon = execute(&machine)?;
        let containerd = Self { machine, daemon };
        containerd.wait_ready()?;
        containerd.ctr(&["images", "import", IMAGE])?;
        Ok(containerd)
    }

    /// Kills containerd, and waits until nobody answers. Containers, and the shims that hold them, live on.
    ///
    /// # Errors
    /// When it lives on.
    pub fn kill(&mut self) -> Result<(), String> {
        self.daemon.kill()?;
        super::eventually(SOON, || match self.machine.host.enter(|| UnixStream::connect(SOCKET)) {
            Ok(_) => Err("containerd still answers after it was killed".into()),
            Err(_) => Ok(()),
        })
    }

    /// Starts containerd again after [`Self::kill`], and waits until its CRI is ready.
    ///
    /// # Errors
    /// What it has said instead.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.daemon = execute(&self.machine)?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<(), String> {
        self.daemon.wait_for("containerd successfully booted", SOON)?;
        super::eventually(SOON, || {
            let information = self.crictl_json(&["info"])?;
            let conditions = information["status"]["conditions"].as_array().into_iter().flatten();
            match conditions.clone().count() >= 2 && conditions.clone().all(|condition| condition["status"] == true) {
                true => Ok(()),
                false => Err(format!("containerd is not ready: {}", information["status"])),
            }
        })
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let said = self.daemon.said();
        let last = &said[said.len().saturating_sub(LAST_WORDS.0)..];
        let cut = |line: &String| line.chars().take(LAST_WORDS.1).collect::<String>();
        format!("--- containerd's last words\n{}", last.iter().map(cut).collect::<Vec<_>>().join("\n"))
    }

    /// Runs crictl; its standard output.
    ///
    /// # Errors
    /// crictl's words, when it fails.
    pub fn crictl(&self, arguments: &[&str]) -> Result<String, String> {
        let endpoint = format!("unix://{SOCKET}");
        let arguments =
            [&["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint, "--timeout", "60s"], arguments].concat();
        self.machine.run(crictl()?, &arguments)
    }

    fn crictl_json(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.crictl(arguments)?;
        serde_json::from_str(&text).map_err(|error| format!("crictl {}: {error}: {text}", arguments.join(" ")))
    }

    /// Runs ctr in the namespace of the CRI; its standard output.
    ///
    /// # Errors
    /// ctr's words, when it fails.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String, String> {
        self.machine.run("ctr", &[&["--namespace", "k8s.io"], arguments].concat())
    }

    /// What crictl is told of a pod: in `namespace` shop, with labels and annotations that a plugin might stumble over.
    pub fn pod(&self, name: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "attempt": 0},
            "hostname": name,
            "labels": {"app": name, "example.org/with": "a=b"},
            "annotations": {"example.org/note": "a;b=c;K8S_POD_NAME=other", "quote": "\"'\\ ü"},
            "linux": {"cgroup_parent": self.machine.cgroup()},
        })
    }

    /// RunPodSandbox; the sandbox's id.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn run_pod(&self, pod: &Value) -> Result<String, String> {
        let path = self.store("pod", &pod["metadata"]["name"], pod)?;
        self.crictl(&["runp", &path])
    }

    /// RunPodSandbox, and in it a container with [`image::SERVER`], started.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn run_server(&self, pod: &Value) -> Result<Sandbox, String> {
        let sandbox = self.inspect(&self.run_pod(pod)?)?;
        let container = json!({
            "metadata": {"name": "server", "attempt": 0},
            "image": {"image": image::NAME},
            "command": image::SERVER,
            "linux": {},
        });
        let name = &pod["metadata"]["name"];
        let (container, pod) = (self.store("server", name, &container)?, self.store("pod", name, pod)?);
        let container = self.crictl(&["create", &sandbox.id, &container, &pod])?;
        self.crictl(&["start", &container])?;
        Ok(sandbox)
    }

    /// What the runtime knows of a pod.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn inspect(&self, id: &str) -> Result<Sandbox, String> {
        let shown = self.crictl_json(&["inspectp", id])?;
        let network = &shown["status"]["network"];
        let additional = network["additionalIps"].as_array().into_iter().flatten().map(|entry| &entry["ip"]);
        let addresses = [&network["ip"]].into_iter().chain(additional);
        let parse = |address: &Value| address.as_str()?.parse().ok();
        let addresses = addresses.map(|address| parse(address).ok_or_else(|| format!("{address} in {network}")));
        let namespaces = shown["info"]["runtimeSpec"]["linux"]["namespaces"].as_array().into_iter().flatten();
        let netns = namespaces.clone().find(|namespace| namespace["type"] == "network");
        let netns =
            netns.and_then(|namespace| namespace["path"].as_str()).ok_or("a pod without a network namespace")?;
        Ok(Sandbox { id: id.into(), addresses: addresses.collect::<Result<_, _>>()?, netns: netns.into() })
    }

    /// StopPodSandbox.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn stop_pod(&self, id: &str) -> Result<(), String> {
        self.crictl(&["stopp", id]).map(drop)
    }

    /// RemovePodSandbox, of a pod that is stopped.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn remove_pod(&self, id: &str) -> Result<(), String> {
        self.crictl(&["rmp", id]).map(drop)
    }

    /// The ids of all pods that the runtime knows, stopped ones too.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn pods(&self) -> Result<Vec<String>, String> {
        Ok(self.crictl(&["pods", "--quiet", "--no-trunc"])?.lines().map(str::to_owned).collect())
    }

    /// Writes what crictl reads from a file.
    fn store(&self, kind: &str, pod: &Value, configuration: &Value) -> Result<String, String> {
        let path = format!("/run/tmp/{}-{kind}.json", pod.as_str().unwrap_or_default());
        let written = self.machine.host.enter(|| std::fs::write(&path, configuration.to_string()));
        written.map(|()| path.clone()).map_err(|error| format!("write {path}: {error}"))
    }
}

impl Sandbox {
    /// Its address of the family of `like`.
    ///
    /// # Errors
    /// When it has none.
    pub fn address(&self, like: std::net::IpAddr) -> Result<std::net::IpAddr, String> {
        let found = self.addresses.iter().find(|address| address.is_ipv4() == like.is_ipv4());
        found.copied().ok_or_else(|| format!("no address like {like} among {:?}", self.addresses))
    }

    /// Its network, to look at and to act from.
    ///
    /// # Errors
    /// When it is gone.
    pub fn host(&self, on: &Host) -> Result<Host, String> {
        on.found_pod(&self.id[..8], &self.netns)
    }
}

fn execute(machine: &Machine) -> Result<Process, String> {
    machine.start("containerd", "containerd", &["--config", CONFIGURATION])
}

/// Where crictl is. In this world there is no network: it has to be built already.
fn crictl() -> Result<&'static str, String> {
    static PLACE: OnceLock<Result<String, String>> = OnceLock::new();
    let find = || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/crictl");
        let output = Command::new(&script).output().map_err(|error| format!("{}: {error}", script.display()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
            false => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(format!("run scripts/crictl first, which builds crictl: {why}"))
            }
        }
    };
    PLACE.get_or_init(find).as_deref().map_err(Clone::clone)
}
