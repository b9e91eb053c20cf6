//! `podwire-demo`: a cluster of three nodes on this machine, looked at from all sides, and taken away again.
//!
//! The process that the user starts stays outside: it notes what the machine has, has `podwire-isolate` start this program
//! again in a world of its own (`show`), and compares when that has ended.

mod conversation;
mod leftovers;
mod machine;
mod matrix;
mod picture;
mod policy;
mod screen;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Builds a podwire cluster of three nodes out of network namespaces on this machine, shows that every pod reaches every
/// other, that a NetworkPolicy refuses some, and that an IRC conversation works across it, and takes it away again.
#[derive(Debug, Parser)]
#[command(name = "scripts/demo", bin_name = "scripts/demo", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Leave the cluster up, and print how to enter its pods
    #[arg(long, conflicts_with = "down")]
    keep: bool,

    /// Take away a cluster that was left up
    #[arg(long)]
    down: bool,

    /// The part that runs in the world of its own; told by the part that does not
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    inside: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  scripts/demo           the whole show, some seconds; exit code 0 only if every check held
  scripts/demo --keep    the show, and then a cluster to look around in
  scripts/demo --down    the end of it

It runs as root, and without root where user namespaces are allowed. NO_COLOR is honoured.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = screen::Screen::new();
    let outcome = match &arguments.inside {
        Some(directory) => show::run(&screen, arguments.keep, directory),
        None if arguments.down => machine::take_down(&screen),
        None => machine::run(&screen, arguments.keep),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            screen.failure(&why);
            ExitCode::FAILURE
        }
    }
}
