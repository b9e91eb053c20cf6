//! The command line: what a user types, with the help that teaches it.
//!
//! What may not live here: what a command does (`commands`), and whether what was typed fits the node.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Parser, Subcommand};
use nix::unistd::gethostname;
use podwire_conf::defaults;

/// The per-node daemon of the podwire pod network: keeps the VXLAN overlay to the other nodes, the firewall, the
/// masquerade and the CNI configuration as the cluster says.
#[derive(Debug, Parser)]
#[command(name = "podwired", version, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run on this node until SIGTERM or SIGINT; stopping takes nothing away, so pods keep their network
    #[command(after_help = RUN_EXAMPLE)]
    Run(Run),

    /// Install the plugin where the container runtime looks for it; changes nothing if it is installed already
    Install(Install),

    /// Remove podwire from this node without a trace; refuses while podwired runs or pods are attached
    Uninstall(Uninstall),

    /// Show node status: the overlay, the peers, the addresses, and what is wrong
    ///
    /// The exit code is 0 when all is OK, 1 when something is wrong, 2 when the daemon does not answer.
    Status(Status),

    /// Diagnose the connectivity of pods, and suggest a fix for each finding
    ///
    /// Asks the daemon for its status, which names the nodes; with --nodes and --node-name it needs no daemon. The exit
    /// code is 0 when nothing is found, 1 when something is, 2 when the node could not be examined.
    Doctor(Doctor),

    /// Show which NetworkPolicies are in force on this node, and explain why a packet passes or not
    #[command(subcommand)]
    Policy(Policy),

    /// Print a script that completes this command line in a shell
    Completions(Completions),
}

const RUN_EXAMPLE: &str = "\
Example of a membership file; every node reads the same one:

  cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]

  [[node]]
  name = \"node-1\"
  address = \"192.168.50.1\"
  pod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]

A change of the file is noticed within a second: replace it by a rename, or edit it in place.

In Kubernetes the nodes come from the API, and the cluster's ranges, which the API does not have, from the settings file:

  podwired run --node-name node-1 --kubernetes --settings /etc/podwire/podwired.toml";

/// What to show of policies.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// List the NetworkPolicies that select pods of this node, and the pods that each isolates
    ///
    /// The exit code is 0 when they are in force as the API has them, 1 when those of before are, 2 when the daemon does not
    /// answer or policies are switched off.
    List(PolicyList),

    /// Explain whether a packet passes: which policy and which rule of it decides, at each end that this node judges
    ///
    /// The daemon answers from what the kernel enforces. An end on another node is judged there: ask there, too. The exit code is 0
    /// when no end that is judged here denies the packet, 1 when one does, 2 when there is no answer.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:

  Does the pod web reach the DNS server?
    podwired policy explain default/web kube-system/coredns-0 53/UDP

  Does a client outside of the cluster reach the pod web on TCP port 443?
    podwired policy explain 203.0.113.7 default/web 443

  May two pods speak by every protocol and on every port? If not, the ports are named on which they may.
    podwired policy explain default/web default/database

A packet to a Service is judged after it has been translated: ask about a pod behind the Service and its own port, not
about the Service's address. A rule is named by its place in the policy, from 0 on: `ingress[0]` is the first.";

/// How to list policies.
#[derive(Debug, Clone, clap::Args)]
pub struct PolicyList {
    /// Print JSON with stable keys (see docs/network-policy.md)
    #[arg(long)]
    pub json: bool,
}

/// Which packet to explain.
#[derive(Debug, Clone, clap::Args)]
pub struct Explain {
    /// Where the packet comes from: an address, or a pod as NAMESPACE/POD
    #[arg(value_name = "SOURCE")]
    pub source: String,

    /// Where it goes: an address, or a pod as NAMESPACE/POD
    #[arg(value_name = "DESTINATION")]
    pub destination: String,

    /// Its destination port, with /UDP or /SCTP behind it where it is not TCP [default: every protocol and port]
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,

    /// Print JSON with stable keys (see docs/network-policy.md)
    #[arg(long)]
    pub json: bool,
}

/// How to run.
#[derive(Debug, Clone, clap::Args)]
#[command(group = ArgGroup::new("membership").required(true))]
pub struct Run {
    /// Name of this node, as it stands in the membership file or in Kubernetes [default: the host name in lower case, as
    /// kubelet calls its node]
    #[arg(long, value_name = "NAME", env = "NODE_NAME", default_value_t = host_name(), hide_default_value = true)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub node_name: String,

    /// Membership file: the cluster's ranges, and each node's name, address and pod CIDRs
    #[arg(long, value_name = "FILE", group = "membership")]
    pub nodes: Option<PathBuf>,

    /// Directory of NetworkPolicies, which are in force then: YAML or JSON files with NetworkPolicies, and the Pods and
    /// Namespaces that they select (see docs/network-policy.md)
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "kubernetes")]
    pub policies: Option<PathBuf>,

    /// Take the nodes from the Kubernetes API, which is only read (get, list, watch of nodes)
    #[arg(long, group = "membership")]
    pub kubernetes: bool,

    /// How to reach the Kubernetes API, instead of the pod's service account
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    pub kubeconfig: Option<PathBuf>,

    /// Directory for the checkpoint: the last membership from Kubernetes, for a start without the API
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::STATE_DIRECTORY)]
    pub state_directory: PathBuf,

    /// Underlay interface: where packets to the other nodes leave [default: the one that has this node's address]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,

    /// Settings file: what differs from the network's defaults (see docs/daemon.md)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Directory that the container runtime reads its network configuration from
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::CONFLIST_DIRECTORY)]
    pub conflist_directory: PathBuf,

    /// The container runtime's directory of CNI plugins, usually /opt/cni/bin: the podwire beside this program is
    /// installed there, and restored when it is changed or removed
    #[arg(long, value_name = "DIRECTORY")]
    pub plugin_directory: Option<PathBuf>,

    /// Socket of the container runtime's CRI, which knows which pods are alive [default: what kubelet's configuration
    /// below /var/lib/kubelet says, else the first with a CRI of containerd's, CRI-O's, k3s' and cri-dockerd's]
    #[arg(long, value_name = "FILE")]
    pub cri_socket: Option<PathBuf>,

    /// Where to write sysctls when /proc/sys is read-only: the directory in which the host's /proc/sys/net is mounted as
    /// `net`
    #[arg(long, value_name = "DIRECTORY")]
    pub sysctl_root: Option<PathBuf>,

    /// Address and port for /metrics, /healthz and /readyz, as in 127.0.0.1:9472; without it nothing listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
}

/// The name of this host as a node's; empty where the host has none, which is then asked for.
fn host_name() -> String {
    gethostname().map_or_else(|_| String::new(), |name| node_name(&name.to_string_lossy()))
}

/// What kubelet makes of a host name (nodeutil.GetHostname).
fn node_name(host: &str) -> String {
    host.trim().to_lowercase()
}

/// How to install the plugin.
#[derive(Debug, Clone, clap::Args)]
pub struct Install {
    /// The plugin [default: podwire, beside this program]
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,

    /// The container runtime's directory of CNI plugins
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::PLUGIN_DIRECTORY)]
    pub to: PathBuf,
}

/// What to remove, and where it is.
#[derive(Debug, Clone, clap::Args)]
pub struct Uninstall {
    /// Also remove the network of pods that are attached; they go on running without one
    #[arg(long)]
    pub pods: bool,

    /// Retry until everything is removed, where the removal is refused or fails
    #[arg(long)]
    pub wait: bool,

    /// Like --wait, then stay until SIGTERM: for a container that must not exit
    #[arg(long)]
    pub stay: bool,

    /// Directory that the plugin was installed in
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::PLUGIN_DIRECTORY)]
    pub plugin_directory: PathBuf,

    /// Directory that the conflist was written to
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::CONFLIST_DIRECTORY)]
    pub conflist_directory: PathBuf,

    /// Directory of the checkpoint
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::STATE_DIRECTORY)]
    pub state_directory: PathBuf,
}

/// How to show node status.
#[derive(Debug, Clone, clap::Args)]
pub struct Status {
    /// Print JSON with stable keys (see docs/daemon.md)
    #[arg(long)]
    pub json: bool,
}

/// How to look for causes.
#[derive(Debug, Clone, clap::Args)]
pub struct Doctor {
    /// Print JSON: a list of findings
    #[arg(long)]
    pub json: bool,

    /// Membership file, instead of asking the daemon
    #[arg(long, value_name = "FILE", requires = "node_name")]
    pub nodes: Option<PathBuf>,

    /// Name of this node in the membership file
    #[arg(long, value_name = "NAME", requires = "nodes")]
    pub node_name: Option<String>,

    /// Settings file of the daemon
    #[arg(long, value_name = "FILE", requires = "nodes")]
    pub settings: Option<PathBuf>,

    /// Directory that the container runtime reads its network configuration from
    #[arg(long, value_name = "DIRECTORY", default_value = defaults::CONFLIST_DIRECTORY)]
    pub conflist_directory: PathBuf,
}

/// Which shell's script.
#[derive(Debug, Clone, clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish"])]
    pub shell: String,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Args, node_name};

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_host_name_becomes_a_nodes_as_kubelet_does_it() {
        assert_eq!(node_name(" Node-1.Example.COM\n"), "node-1.example.com");
        let empty = Args::try_parse_from(["podwired", "run", "--nodes", "nodes.toml", "--node-name", ""]).unwrap_err();
        assert!(empty.to_string().contains("a value is required for '--node-name <NAME>'"), "{empty}");
    }

    #[test]
    fn the_nodes_come_from_exactly_one_place() {
        let parse = |more: &[&str]| {
            let arguments = ["podwired", "run", "--node-name", "a"].iter().chain(more);
            Args::try_parse_from(arguments).map(drop).map_err(|error| error.to_string())
        };
        parse(&["--nodes", "nodes.toml"]).unwrap();
        parse(&["--nodes", "nodes.toml", "--policies", "policies"]).unwrap();
        parse(&["--kubernetes"]).unwrap();
        parse(&["--kubernetes", "--kubeconfig", "admin.conf"]).unwrap();
        let wrong: [(&[&str], &str); 5] = [
            (&[], "--nodes <FILE>|--kubernetes"),
            (&["--nodes", "nodes.toml", "--kubernetes"], "cannot be used with"),
            (&["--policies", "policies"], "--nodes <FILE>|--kubernetes"),
            (&["--kubernetes", "--policies", "policies"], "cannot be used with"),
            (&["--nodes", "nodes.toml", "--kubeconfig", "admin.conf"], "--kubeconfig"),
        ];
        for (arguments, said) in wrong {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(said), "{arguments:?}: {error}");
        }
    }
}
