//! The command line: what a user types, with the help that teaches it.

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand};

/// Keeps a node's part of the podwire pod network: the VXLAN overlay to the other nodes, the masquerade, and the
/// conflist that tells the container runtime that the network is there.
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
    /// Run on this node until SIGTERM; stopping takes nothing away, so pods keep their network
    #[command(after_help = RUN_EXAMPLE)]
    Run(Run),
}

const RUN_EXAMPLE: &str = "\
Example of a membership file; every node reads the same one:

  cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]

  [[node]]
  name = \"node-1\"
  address = \"192.168.50.1\"
  pod_cidrs = [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]

A change of the file is seen within a second: replace it by a rename, or edit it in place.

In Kubernetes the nodes are those of the API; the cluster's ranges, which it does not tell, come from the settings file:

  podwired run --node-name node-1 --kubernetes --settings /etc/podwire/podwired.toml";

/// How to run.
#[derive(Debug, Clone, clap::Args)]
#[command(group = ArgGroup::new("membership").required(true))]
pub struct Run {
    /// Name of this node, as it stands in the membership file or in Kubernetes
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: String,

    /// Membership file: the cluster's ranges, and each node's name, address and pod CIDRs
    #[arg(long, value_name = "FILE", group = "membership")]
    pub nodes: Option<PathBuf>,

    /// The nodes are those of the Kubernetes API, which is only read (get, list, watch of nodes)
    #[arg(long, group = "membership")]
    pub kubernetes: bool,

    /// How to reach the Kubernetes API, instead of the pod's service account
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    pub kubeconfig: Option<PathBuf>,

    /// Directory that the last membership from Kubernetes is kept in, for a start without the API
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/podwire")]
    pub state_directory: PathBuf,

    /// Settings file: what is not the default of the network (see conf/CONFIGURATION.md)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Directory that the container runtime reads its network configuration from
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/cni/net.d")]
    pub conflist_directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Args;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_nodes_come_from_exactly_one_place() {
        let parse = |more: &[&str]| {
            let arguments = ["podwired", "run", "--node-name", "a"].iter().chain(more);
            Args::try_parse_from(arguments).map(drop).map_err(|error| error.to_string())
        };
        parse(&["--nodes", "nodes.toml"]).unwrap();
        parse(&["--kubernetes"]).unwrap();
        parse(&["--kubernetes", "--kubeconfig", "admin.conf"]).unwrap();
        let wrong: [(&[&str], &str); 3] = [
            (&[], "--nodes <FILE>|--kubernetes"),
            (&["--nodes", "nodes.toml", "--kubernetes"], "cannot be used with"),
            (&["--nodes", "nodes.toml", "--kubeconfig", "admin.conf"], "--kubeconfig"),
        ];
        for (arguments, said) in wrong {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(said), "{arguments:?}: {error}");
        }
    }
}
