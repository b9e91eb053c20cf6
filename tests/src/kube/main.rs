//! `podwire-kube`: a Kubernetes of some nodes on this machine, without Docker; `scripts/kube` builds what it needs and calls it.
//!
//! Whoever calls it stays outside. The world (`world`) is the first process in namespaces of its own, and lasts; it has the
//! control plane, and the network of the nodes. Each node (`machine`) is the first process of its own, in namespaces below the
//! world's. What ends the world ends everything.

mod control_groups;
mod control_plane;
mod credentials;
mod down;
mod enter;
mod images;
mod machine;
mod node;
mod service;
mod up;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use podwire_tests::lab::kube::Place;

/// A Kubernetes on this machine: each node a network and a file system of its own with containerd and kubelet, beside them
/// the control plane. Everything of it is below $PODWIRE_KUBE_STATE (/tmp/podwire-kube).
#[derive(Debug, Parser)]
#[command(name = "podwire-kube", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring it up, and wait until every node is Ready
    Up(up::Up),

    /// Take all of it away
    Down,

    /// Run kubectl as the cluster's administrator
    #[command(disable_help_flag = true)]
    Kubectl {
        /// What kubectl is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },

    /// Print what the processes of a node, or of the control plane, have said
    Logs {
        /// node-1, node-2, …, or control-plane
        owner: String,

        /// How many lines of each
        #[arg(long, default_value_t = 40)]
        lines: usize,
    },

    /// Run a program in the world of the cluster
    Enter {
        /// On this node, instead of beside the control plane
        #[arg(long)]
        node: Option<String>,

        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },

    /// The first process of the world
    #[command(hide = true)]
    World {
        /// How many nodes there are
        #[arg(long)]
        nodes: u16,
    },

    /// The first process of a node
    #[command(hide = true)]
    Machine {
        /// The node's name
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let place = Place::named();
    let outcome = match arguments.command {
        Command::Up(up) => up::up(&place, &up).map(|()| ExitCode::SUCCESS),
        Command::Down => down::down(&place).map(|()| ExitCode::SUCCESS),
        Command::Kubectl { arguments } => {
            let mut kubectl = place.kubectl();
            kubectl.args(arguments).stdin(std::process::Stdio::inherit());
            enter::enter(&place, None, kubectl)
        }
        Command::Logs { owner, lines } => up::logs(&place, &owner, lines).map(|()| ExitCode::SUCCESS),
        Command::Enter { node, command } => {
            let mut program = std::process::Command::new(PathBuf::from(&command[0]));
            program.args(&command[1..]);
            enter::enter(&place, node.as_deref(), program)
        }
        Command::World { nodes } => world::world(&place, nodes),
        Command::Machine { name } => machine::machine(&place, &name),
    };
    outcome.unwrap_or_else(|why| {
        eprintln!("podwire-kube: {why}");
        ExitCode::FAILURE
    })
}
