//! NetworkPolicies in podwired: the course of the run, and what came of it as values. The daemon is the real one, with an API of
//! prepared text, so a time is from an event on its connection to what the kernel has.

mod api;
mod attach;
mod change;
mod cluster;
mod cold;
mod commits;
mod cut;
mod generations;
mod packets;
mod shown;
mod stage;
mod verdicts;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::daemon::{self, Begun};
use crate::machine::Machine;
use crate::verdict::Verdict;
use attach::Attach;
use change::Change;
use cold::Cold;
use cut::{Cut, Whose};
use packets::{Effort, Packets};

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// From objects that are known to policies in force, and memory
    Cold,
    /// One pod that comes and goes
    Change,
    /// Connections that a policy refuses
    Cut,
    /// Packets that policies allow
    Packets,
    /// ADD that waits for its policies
    Attach,
}

/// How much is done.
struct Size {
    /// Policies; there are ten times as many pods.
    policies: [u32; 3],
    nodes: u32,
    tries: usize,
    changes: u32,
    /// Tracked connections, and policies that come and go beside them.
    flows: u32,
    rounds: u32,
    packets: Effort,
    /// Pods that are attached.
    attached: u32,
}

impl Size {
    const WHOLE: Self = Self {
        policies: [500, 1_000, 2_000],
        nodes: 1_000,
        tries: 3,
        changes: 1_000,
        flows: 100_000,
        rounds: 10,
        packets: Effort { rounds: 25, slice: Duration::from_millis(400) },
        attached: 100,
    };
    const QUICK: Self = Self {
        policies: [50, 100, 200],
        nodes: 20,
        tries: 1,
        changes: 20,
        flows: 1_000,
        rounds: 2,
        packets: Effort { rounds: 1, slice: Duration::from_millis(50) },
        attached: 3,
    };
}

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether it was too short to mean much.
    pub(crate) quick: bool,
    /// Where and what.
    pub(crate) machine: Machine,
    /// Each number of policies, in rising order.
    pub(crate) cold: Vec<Cold>,
    /// One pod that comes and goes.
    pub(crate) change: Option<Change>,
    /// Connections that are refused.
    pub(crate) cut: Vec<Cut>,
    /// Packets that are allowed.
    pub(crate) packets: Vec<Packets>,
    /// ADD.
    pub(crate) attach: Option<Attach>,
    /// What must be, and whether it is.
    pub(crate) verdicts: Vec<Verdict>,
}

/// Measures everything, or the part that was asked for.
///
/// # Errors
/// What did not work, and what the one that did not has said.
pub(crate) fn run(arguments: &crate::Policy) -> Result<Report, String> {
    let Begun { podwired, machine, shared } = daemon::begin(arguments.podwired.as_deref(), &arguments.run)?;
    let size = if arguments.run.quick { Size::QUICK } else { Size::WHOLE };
    let wanted = |section| arguments.only.is_none_or(|only| only == section);
    let cluster = |policies| cluster::Size { policies, pods: policies * 10, nodes: size.nodes };

    let mut report = Report {
        quick: arguments.run.quick,
        machine,
        cold: Vec::new(),
        change: None,
        cut: Vec::new(),
        packets: Vec::new(),
        attach: None,
        verdicts: Vec::new(),
    };
    if wanted(Section::Cold) {
        for policies in size.policies {
            progress(&format!("{policies} policies from nothing, {} times", size.tries));
            report.cold.push(cold::measure(cluster(policies), size.tries, &podwired, &shared)?);
        }
    }
    let [_, middle, _] = size.policies;
    if wanted(Section::Change) {
        progress(&format!("{} pods come and go beside {middle} policies, twice", size.changes));
        report.change = Some(change::measure(cluster(middle), size.changes, &podwired, &shared)?);
    }
    if wanted(Section::Cut) {
        for (whose, of) in [(Whose::Others, "other pods"), (Whose::Refused, "the pod that it isolates")] {
            progress(&format!(
                "a policy comes and goes {} times beside {} connections of {of}",
                size.rounds, size.flows
            ));
            report.cut.push(cut::measure(cluster(middle), (size.flows, whose), size.rounds, &podwired, &shared)?);
        }
    }
    if wanted(Section::Packets) {
        progress(&format!("packets past {middle} policies, one and none, {} rounds", size.packets.rounds));
        report.packets = packets::measure(cluster(middle), size.packets, &podwired, &shared)?;
    }
    if wanted(Section::Attach) {
        progress(&format!("{} pods are attached beside {middle} policies, twice", size.attached));
        report.attach = Some(attach::measure(cluster(middle), size.attached, &podwired, &shared)?);
    }
    report.verdicts = verdicts::all(&report);
    Ok(report)
}

/// For whoever waits.
fn progress(what: &str) {
    eprintln!("  {what}");
}
