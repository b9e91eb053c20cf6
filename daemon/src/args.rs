//! The command line: what a user types, with the help that teaches it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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

A change of the file is seen within a second: replace it by a rename, or edit it in place.";

/// How to run.
#[derive(Debug, Clone, clap::Args)]
pub struct Run {
    /// Name of this node, as it stands in the membership file
    #[arg(long, value_name = "NAME")]
    pub node_name: String,

    /// Membership file: the cluster's ranges, and each node's name, address and pod CIDRs
    #[arg(long, value_name = "FILE")]
    pub nodes: PathBuf,

    /// Interface that packets to the other nodes leave by, if it is not the one that has this node's address
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,

    /// Settings file: what is not the default of the network (see conf/CONFIGURATION.md)
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,

    /// Directory that the container runtime reads its network configuration from
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/cni/net.d")]
    pub conflist_directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Args::command().debug_assert();
    }
}
