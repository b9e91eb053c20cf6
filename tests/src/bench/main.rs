//! `podwire-bench`: how fast podwire is, side by side with others in one run.
//!
//! It is started by `scripts/bench`, which builds what it compares, in a world of its own (`podwire-isolate`): every
//! contestant has a host, so no contestant's rules, routes and devices are in another's way.

mod binary;
mod chart;
mod contestant;
mod daemon;
mod growth;
mod held;
mod lane;
mod machine;
mod memory;
mod plugin;
mod policy;
mod quiet;
mod race;
mod report;
mod statistics;
mod step;
mod table;
mod tcp;
mod tools;
mod verdict;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::verdict::Verdict;

/// Where the charts of published runs are, for the README.
const PUBLISHED: &str = "tests/bench";

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
    Daemon(Daemon),
    Policy(Policy),
}

/// What every subject takes.
#[derive(Debug, Args)]
struct Run {
    /// A short run with few pods and peers: shows that everything works, its numbers mean little
    #[arg(long)]
    quick: bool,

    /// Exit with 1 when a must is missed
    #[arg(long)]
    check: bool,

    /// Write the chart to tests/bench too
    #[arg(long)]
    publish: bool,

    /// Where SUBJECT.json and SUBJECT.svg are written (set by scripts/bench)
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    output: PathBuf,

    /// What is measured, for the record (set by scripts/bench)
    #[arg(long, hide = true, value_name = "COMMIT", default_value = "unknown")]
    revision: String,
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
    #[command(flatten)]
    run: Run,

    /// Measure this plugin instead of the one that was built
    #[arg(long, value_name = "FILE")]
    podwire: Option<PathBuf>,

    /// Tell portmap which way to take; without it takes iptables where there is such a program, else nftables
    #[arg(long, value_name = "BACKEND", value_parser = ["iptables", "nftables"])]
    portmap: Option<String>,

    /// Where the reference plugins are (set by scripts/bench)
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    reference: PathBuf,

    /// Where the floor and the measure of memory are (set by scripts/bench)
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    tools: PathBuf,
}

/// The daemon and its overlay against the flannel layout and plain routes
///
/// Measures TCP between pods on two nodes over the overlay that podwired makes, over the flannel layout (a plain VXLAN
/// device, and for each peer a route, a permanent neighbour and an FDB entry) and over plain routes, in turn; the time
/// that 1,000 to 10,000 peers take from the start of podwired, and its memory; the time that one peer takes that joins
/// 5,000 others; a repair; the processor time beside 5,000 peers; and whether a minute of joins, leaves and changes
/// ends in just the state that a fresh start makes.
///
/// What is compared is programmed by `ip -batch` and `bridge -batch` in the same run, in namespaces of the same kind.
#[derive(Debug, Args)]
#[command(max_term_width = 100, override_usage = "scripts/bench daemon [OPTIONS]", after_help = DAEMON_EXAMPLES)]
struct Daemon {
    #[command(flatten)]
    run: Run,

    /// Measure this daemon instead of the one that was built
    #[arg(long, value_name = "FILE")]
    podwired: Option<PathBuf>,

    /// Measure only this
    #[arg(long, value_name = "PART", value_enum)]
    only: Option<daemon::Section>,
}

/// NetworkPolicies in podwired, from the objects to what the kernel has
///
/// Measures the time from the last object of 500, 1,000 and 2,000 policies with ten times as many pods until they are in
/// force, and the memory; the time that a pod takes that comes to another node and that 100 of 1,000 policies let in; and,
/// beside 100,000 tracked connections, when a policy that refuses has the last packet of an old and of a new connection.
///
/// podwired follows an API that has its answers prepared. Times are from an event on its connection to what another program
/// hears from the kernel, or to the last packet that arrives in a pod.
#[derive(Debug, Args)]
#[command(max_term_width = 100, override_usage = "scripts/bench policy [OPTIONS]", after_help = POLICY_EXAMPLES)]
struct Policy {
    #[command(flatten)]
    run: Run,

    /// Measure this daemon instead of the one that was built
    #[arg(long, value_name = "FILE")]
    podwired: Option<PathBuf>,

    /// Measure only this
    #[arg(long, value_name = "PART", value_enum)]
    only: Option<policy::Section>,
}

const POLICY_EXAMPLES: &str = "\
Examples:
  scripts/bench policy                the whole run: some two minutes on two cores
  scripts/bench policy --quick        does the bench work?
  scripts/bench policy --check        does podwired still reach what it must?
  scripts/bench policy --only change  one part, while you work on it";

const DAEMON_EXAMPLES: &str = "\
Examples:
  scripts/bench daemon                  the whole run: about nine minutes on two cores
  scripts/bench daemon --quick          does the bench work?
  scripts/bench daemon --check          does podwired still reach what it must?
  scripts/bench daemon --only traffic   one part, while you work on it";

const EXAMPLES: &str = "\
Examples:
  scripts/bench plugin              the whole run: some minutes on two cores
  scripts/bench plugin --quick      does the bench work?
  scripts/bench plugin --check      does podwire still reach what it must?
  scripts/bench plugin --publish    write the chart of docs/benchmarks.md again";

/// A run, ready to be shown and kept.
struct Shown<'a> {
    name: &'static str,
    json: String,
    chart: String,
    text: String,
    verdicts: &'a [Verdict],
}

fn main() -> ExitCode {
    let (check, outcome) = match &Arguments::parse().subject {
        Subject::Plugin(arguments) => (arguments.run.check, of_plugin(arguments)),
        Subject::Daemon(arguments) => (arguments.run.check, of_daemon(arguments)),
        Subject::Policy(arguments) => (arguments.run.check, of_policy(arguments)),
    };
    match outcome {
        Ok(missed) if missed && check => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nscripts/bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a must was missed.
fn of_plugin(arguments: &Plugin) -> Result<bool, String> {
    let report = plugin::run(arguments)?;
    let (json, chart, text) = (report.json()?, chart::draw(&report), table::text(&report));
    let shown = Shown { name: "plugin", json, chart, text, verdicts: &report.verdicts };
    shown.write(&arguments.run)
}

/// Whether a must was missed.
fn of_daemon(arguments: &Daemon) -> Result<bool, String> {
    let report = daemon::run(arguments)?;
    let (json, chart, text) = (json(&report)?, report.chart(), report.text());
    let shown = Shown { name: "daemon", json, chart, text, verdicts: &report.verdicts };
    shown.write(&arguments.run)
}

/// Whether a must was missed.
fn of_policy(arguments: &Policy) -> Result<bool, String> {
    let report = policy::run(arguments)?;
    let (json, chart, text) = (json(&report)?, report.chart(), report.text());
    let shown = Shown { name: "policy", json, chart, text, verdicts: &report.verdicts };
    shown.write(&arguments.run)
}

/// A report as JSON.
fn json(report: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| format!("write the report: {error}"))?;
    Ok(format!("{text}\n"))
}

impl Shown<'_> {
    /// The table for whoever looks on, and the files for later. Whether a must was missed.
    fn write(&self, run: &Run) -> Result<bool, String> {
        let put = |path: PathBuf, content: &str| {
            let directory = path.parent().unwrap_or(&path);
            let write = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, content));
            write
                .map(|()| format!("{}\n", path.display()))
                .map_err(|error| format!("write {}: {error}", path.display()))
        };
        let mut files = put(run.output.join(format!("{}.json", self.name)), &self.json)?;
        let drawing = format!("{}.svg", self.name);
        files += &put(run.output.join(&drawing), &self.chart)?;
        if run.publish {
            files += &put(Path::new(PUBLISHED).join(&drawing), &self.chart)?;
        }
        let text = format!("{}\nWritten:\n{files}", self.text);
        stdout().write_all(text.as_bytes()).map_err(|error| format!("write the table: {error}"))?;
        Ok(self.verdicts.iter().any(Verdict::is_missed))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_help_names_files_that_are_in_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut named = 0;
        for subject in Arguments::command().get_subcommands_mut() {
            let help = subject.render_long_help().to_string();
            let words = help.split_whitespace().map(|word| word.trim_matches(['`', '.', ',', ';', '(', ')']));
            for word in words.filter(|word| word.ends_with(".svg") || word.starts_with("scripts/")) {
                named += 1;
                assert!(root.join(word).exists(), "scripts/bench {} --help names {word}", subject.get_name());
            }
        }
        assert!(named >= 4, "the help names the chart and the script of each subject: {named}");
    }
}
