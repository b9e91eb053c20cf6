//! Who is compared: what each executes for an ADD and a DEL of a pod.

use podwire_tests::lab::chain::with_previous;
use podwire_tests::lab::runtime::Call;
use serde::Serialize;
use serde_json::{Value, json};

use crate::lane::{Pod, SUBNETS};
use crate::step::Step;
use crate::tools::Tools;

/// The MTU of every pod.
const MTU: u32 = 1450;

/// The version that libcni speaks with all of them.
const VERSION: &str = "1.0.0";

/// A way to give a pod a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Contestant {
    /// One call of our plugin.
    Podwire,
    /// ptp, which executes host-local; then portmap.
    Ptp,
    /// bridge, which executes host-local; then portmap.
    Bridge,
    /// A C program that makes podwire's kernel objects, and does nothing else.
    Floor,
}

/// What is done with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    Add,
    Del,
}

/// Which addresses a pod gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Families {
    /// One IPv4 address.
    Ipv4,
    /// One of each family.
    Dual,
}

impl Families {
    /// In the order of the tables.
    pub(crate) const ALL: [Self; 2] = [Self::Ipv4, Self::Dual];

    /// How many addresses.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Ipv4 => 1,
            Self::Dual => 2,
        }
    }

    /// For humans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Dual => "IPv4 and IPv6",
        }
    }
}

/// What a pod is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Setup {
    /// Which addresses.
    pub(crate) families: Families,
    /// Whether a port of the host leads to it.
    pub(crate) host_port: bool,
}

impl Setup {
    /// Both families, no port.
    pub(crate) const DUAL: Self = Self { families: Families::Dual, host_port: false };
}

impl Verb {
    /// As CNI writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

impl Contestant {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 4] = [Self::Podwire, Self::Ptp, Self::Bridge, Self::Floor];

    /// For humans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Podwire => "podwire",
            Self::Ptp => "ptp + host-local + portmap",
            Self::Bridge => "bridge + host-local + portmap",
            Self::Floor => "floor (netlink only, in C)",
        }
    }

    /// The calls for a pod, in the order of the verb: a DEL goes through a chain from its end.
    pub(crate) fn steps(self, tools: &Tools, pod: &Pod, verb: Verb) -> Vec<Part> {
        let mut parts = match self {
            Self::Podwire => vec![Part::plugin(tools.podwire.clone(), podwire(pod))],
            Self::Ptp => vec![
                Part::plugin(tools.reference("ptp"), ptp(pod)),
                Part::plugin(tools.reference("portmap"), portmap(tools, pod)),
            ],
            Self::Bridge => vec![
                Part::plugin(tools.reference("bridge"), bridge(pod)),
                Part::plugin(tools.reference("portmap"), portmap(tools, pod)),
            ],
            Self::Floor => vec![Part::Bare(Step::bare(tools.floor.clone(), floor(pod, verb)))],
        };
        if verb == Verb::Del {
            parts.reverse();
        }
        parts
    }
}

/// A call that is not complete yet.
#[derive(Debug)]
pub(crate) enum Part {
    /// It is told all already.
    Bare(Step),
    /// A plugin, that has to be told what those before it have answered.
    Plugin {
        /// Where it is.
        program: std::path::PathBuf,
        /// Its section of the conflist, as libcni passes it on.
        configuration: Value,
    },
}

impl Part {
    fn plugin(program: std::path::PathBuf, mut configuration: Value) -> Self {
        configuration["cniVersion"] = json!(VERSION);
        configuration["name"] = json!("bench");
        Self::Plugin { program, configuration }
    }

    /// The call, with the result of those before it (of the whole ADD, for a DEL).
    pub(crate) fn complete(self, tools: &Tools, pod: &Pod, verb: Verb, previous: &Value) -> Step {
        match self {
            Self::Bare(step) => step,
            Self::Plugin { program, configuration } => {
                let configuration = with_previous(configuration, previous);
                let call = Call::new(verb.name(), &pod.container, &pod.path, &configuration);
                Step::plugin(program, call, &tools.plugin_path())
            }
        }
    }
}

fn podwire(pod: &Pod) -> Value {
    with_ports(json!({"type": "podwire", "mtu": MTU, "ipam": ipam(pod, &json!({"type": "podwire"}))}), pod)
}

fn ptp(pod: &Pod) -> Value {
    json!({"type": "ptp", "mtu": MTU, "ipam": ipam(pod, &host_local())})
}

fn bridge(pod: &Pod) -> Value {
    json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": MTU, "ipam": ipam(pod, &host_local()),
    })
}

fn portmap(tools: &Tools, pod: &Pod) -> Value {
    let mut configuration = with_ports(json!({"type": "portmap"}), pod);
    if let Some(backend) = &tools.backend {
        configuration["backend"] = json!(backend);
    }
    configuration
}

/// Its state on a tmpfs, as podwire's; by default it is on a disk, where it is slower.
fn host_local() -> Value {
    json!({"type": "host-local", "dataDir": "/run/cni/networks"})
}

fn ipam(pod: &Pod, kind: &Value) -> Value {
    let mut ipam = kind.clone();
    let count = pod.setup.families.count();
    ipam["ranges"] = SUBNETS.iter().take(count).map(|subnet| json!([{"subnet": subnet}])).collect();
    ipam["routes"] = ["0.0.0.0/0", "::/0"].iter().take(count).map(|route| json!({"dst": route})).collect();
    ipam
}

/// What a runtime adds for a plugin that says it knows ports.
fn with_ports(mut configuration: Value, pod: &Pod) -> Value {
    configuration["capabilities"] = json!({"portMappings": true});
    if pod.setup.host_port {
        let port = pod.host_port();
        let mapping = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
        configuration["runtimeConfig"] = json!({"portMappings": [mapping]});
    }
    configuration
}

fn floor(pod: &Pod, verb: Verb) -> Vec<String> {
    let device = format!("floor{}", pod.number);
    match verb {
        Verb::Add => {
            let told = vec!["add".into(), pod.path.display().to_string(), device, MTU.to_string()];
            told.into_iter().chain(pod.addresses.iter().take(pod.setup.families.count()).cloned()).collect()
        }
        Verb::Del => vec!["del".into(), device],
    }
}
