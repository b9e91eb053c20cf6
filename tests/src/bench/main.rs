//! `podwire-bench`: how fast podwire is, side by side with others in one run.
//!
//! It is started by `scripts/bench`, which builds what it compares, in a world of its own (`podwire-isolate`): every
//! contestant has a host, so no contestant's rules, routes and devices are in another's way.

mod binary;
mod chart;
mod contestant;
mod growth;
mod held;
mod lane;
mod machine;
mod memory;
mod plugin;
mod quiet;
mod race;
mod report;
mod statistics;
mod step;
mod table;
mod tools;
mod verdict;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::report::Report;
use crate::verdict::Verdict;

/// Where the chart of a published run is, for the README.
const PUBLISHED: &str = "tests/bench/plugin.svg";

/// Measures podwire and what it is compared with, side by side in one run.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench", bin_name = "scripts/bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    Plugin(Plugin),
}

/// The CNI plugin against the reference plugins' chains and the kernel's floor
///
/// Measures ADD and DEL, with and without a hostPort, one at a time and 16 at once; then beside many pods and beside
/// many held addresses; and memory.
///
/// The contestants are podwire; ptp + host-local + portmap and bridge + host-local + portmap, called one after the other
/// as libcni does; and a C program that does only the netlink work of an ADD or a DEL. Each has a host of its own (a
/// namespace) and as many pods; they take turns pod by pod. A time is from before a process is started
/// until it has ended and its answer is read. Before each DEL that is measured alone the kernel is given the time to finish
/// what was removed before.
#[derive(Debug, Args)]
#[command(max_term_width = 100, override_usage = "scripts/bench plugin [OPTIONS]", after_help = EXAMPLES)]
struct Plugin {
    /// A short run of 20 pods: shows that everything works, its numbers mean little
    #[arg(long)]
    quick: bool,

    /// Exit with 1 when a must is missed
    #[arg(long)]
    check: bool,

    /// Write the chart to docs/bench-plugin.svg too
    #[arg(long)]
    publish: bool,

    /// Measure this plugin instead of the one that was built
    #[arg(long, value_name = "FILE")]
    podwire: Option<PathBuf>,

    /// Tell portmap which way to take; without it takes iptables where there is such a program, else nftables
    #[arg(long, value_name = "BACKEND", value_parser = ["iptables", "nftables"])]
    portmap: Option<String>,

    /// Where plugin.json and plugin.svg are written (told by scripts/bench)
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    output: PathBuf,

    /// Where the reference plugins are (told by scripts/bench)
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    reference: PathBuf,

    /// Where the floor and the measure of memory are (told by scripts/bench)
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    tools: PathBuf,

    /// What is measured, for the record (told by scripts/bench)
    #[arg(long, hide = true, value_name = "COMMIT", default_value = "unknown")]
    revision: String,
}

const EXAMPLES: &str = "\
Examples:
  scripts/bench plugin              the whole run: some minutes on two cores
  scripts/bench plugin --quick      does the bench work?
  scripts/bench plugin --check      does podwire still reach what it must?
  scripts/bench plugin --publish    the chart in the README, made anew";

fn main() -> ExitCode {
    let Arguments { subject: Subject::Plugin(arguments) } = Arguments::parse();
    let outcome = plugin::run(&arguments).and_then(|report| {
        write(&arguments, &report)?;
        Ok(report)
    });
    match outcome {
        Ok(report) if arguments.check && report.verdicts.iter().any(Verdict::is_missed) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nscripts/bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The table for whoever looks on, and the files for later.
fn write(arguments: &Plugin, report: &Report) -> Result<(), String> {
    let put = |path: PathBuf, content: &str| {
        let directory = path.parent().unwrap_or(&path);
        let write = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, content));
        write.map(|()| format!("{}\n", path.display())).map_err(|error| format!("write {}: {error}", path.display()))
    };
    let chart = chart::draw(report);
    let mut files = put(arguments.output.join("plugin.json"), &report.json()?)?;
    files += &put(arguments.output.join("plugin.svg"), &chart)?;
    if arguments.publish {
        files += &put(PUBLISHED.into(), &chart)?;
    }
    let text = format!("{}\nWritten:\n{files}", table::text(report));
    stdout().write_all(text.as_bytes()).map_err(|error| format!("write the table: {error}"))
}
