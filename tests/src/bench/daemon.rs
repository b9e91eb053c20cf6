//! The daemon beside the flannel layout: the course of the run, and what came of it as values.

mod churn;
mod join;
pub(crate) mod layout;
pub(crate) mod plan;
pub(crate) mod program;
mod rest;
mod scale;
mod shown;
mod traffic;
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use podwire_tests::lab;
use serde::Serialize;

use crate::machine::{self, Machine};
use crate::verdict::Verdict;
use churn::Churn;
use join::Join;
use scale::Scale;
use traffic::{Effort, Traffic};

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// TCP between pods
    Traffic,
    /// From nothing to many peers, memory, a repair
    Scale,
    /// One peer more, and the cost of rest
    Join,
    /// A minute of joins, leaves and changes
    Churn,
}

/// How much is done.
struct Size {
    traffic: Effort,
    peers: [u32; 4],
    tries: usize,
    /// Peers that are there, and peers that join them.
    joins: (u32, u32),
    rest: Duration,
    /// Nodes, and for how long they come and go.
    churn: (u32, Duration),
}

impl Size {
    const WHOLE: Self = Self {
        traffic: Effort { rounds: 11, slice: Duration::from_millis(1500) },
        peers: [100, 1_000, 5_000, 10_000],
        tries: 3,
        joins: (5_000, 200),
        rest: Duration::from_secs(60),
        churn: (500, Duration::from_secs(60)),
    };
    const QUICK: Self = Self {
        traffic: Effort { rounds: 1, slice: Duration::from_millis(200) },
        peers: [10, 20, 50, 100],
        tries: 1,
        joins: (50, 5),
        rest: Duration::from_secs(1),
        churn: (50, Duration::from_secs(3)),
    };
}

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether it was too short to mean much.
    pub(crate) quick: bool,
    /// Where and what.
    pub(crate) machine: Machine,
    /// Each layout's traffic.
    pub(crate) traffic: Vec<Traffic>,
    /// Each number of peers, in rising order.
    pub(crate) scale: Vec<Scale>,
    /// One peer more, beside many.
    pub(crate) join: Option<Join>,
    /// A minute without rest.
    pub(crate) churn: Option<Churn>,
    /// What must be, and whether it is.
    pub(crate) verdicts: Vec<Verdict>,
}

/// What a run goes by.
pub(crate) struct Begun {
    /// The daemon that is measured.
    pub(crate) podwired: PathBuf,
    /// Where it is measured, with what, and beside what.
    pub(crate) machine: Machine,
    /// A directory of the hosts.
    pub(crate) shared: PathBuf,
}

/// Looks for all of it: the daemon that was given, or the one that was built.
///
/// # Errors
/// What is missing.
pub(crate) fn begin(podwired: Option<&Path>, run: &crate::Run) -> Result<Begun, String> {
    lab::require_isolation()?;
    let podwired = match podwired {
        Some(path) => path.to_owned(),
        None => lab::program("podwired").map_err(|error| error.to_string())?,
    };
    // What is executed is executed from the root directory.
    let podwired = podwired.canonicalize().map_err(|error| format!("find {}: {error}", podwired.display()))?;
    let shared = PathBuf::from("/run/bench");
    fs::create_dir_all(&shared).map_err(|error| format!("create {}: {error}", shared.display()))?;
    let own = machine::version(&podwired.display().to_string(), &["--version"])?;
    let machine = Machine::with(own, machine::iproute2()?, &run.revision)?;
    Ok(Begun { podwired, machine, shared })
}

/// Measures everything, or the part that was asked for.
///
/// # Errors
/// What did not work, and what the one that did not has said.
pub(crate) fn run(arguments: &crate::Daemon) -> Result<Report, String> {
    let Begun { podwired, machine, shared } = begin(arguments.podwired.as_deref(), &arguments.run)?;
    let size = if arguments.run.quick { Size::QUICK } else { Size::WHOLE };
    let wanted = |section| arguments.only.is_none_or(|only| only == section);

    let mut report = Report {
        quick: arguments.run.quick,
        machine,
        traffic: Vec::new(),
        scale: Vec::new(),
        join: None,
        churn: None,
        verdicts: Vec::new(),
    };
    if wanted(Section::Traffic) {
        progress(&format!("traffic between pods, {} rounds of each layout", size.traffic.rounds));
        report.traffic = traffic::measure(size.traffic, &podwired, &shared)?;
    }
    if wanted(Section::Scale) {
        for peers in size.peers {
            progress(&format!("{peers} peers from nothing, {} times", size.tries));
            report.scale.push(scale::measure(peers, size.tries, &podwired, &shared)?);
        }
    }
    if wanted(Section::Join) {
        let (peers, joins) = size.joins;
        progress(&format!("{joins} peers join {peers} others, then rest"));
        report.join = Some(join::measure(peers, joins, size.rest, &podwired, &shared)?);
    }
    if wanted(Section::Churn) {
        let (nodes, length) = size.churn;
        progress(&format!("{nodes} nodes join, leave and change for {} s", length.as_secs()));
        report.churn = Some(churn::measure(nodes, length, &podwired, &shared)?);
    }
    report.verdicts = verdicts::all(&report);
    Ok(report)
}

/// For whoever waits.
fn progress(what: &str) {
    eprintln!("  {what}");
}
