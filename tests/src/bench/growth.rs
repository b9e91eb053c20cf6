//! Whether a call costs more when there are many pods on the node.

use std::path::Path;

use serde::Serialize;

use crate::contestant::{Contestant, Verb};
use crate::lane::{Duplicates, Lane};
use crate::quiet::Quiet;
use crate::race;
use crate::statistics::Summary;
use crate::tools::Tools;

/// bridge is ptp's like in this; each contestant more is a thousand namespaces more.
const CONTESTANTS: [Contestant; 3] = [Contestant::Podwire, Contestant::Ptp, Contestant::Floor];

/// What a call took beside some attached pods.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Growth {
    /// Whose.
    pub(crate) contestant: Contestant,
    /// How many pods were attached on the host already.
    pub(crate) pods: usize,
    /// ADD, one at a time.
    pub(crate) add: Summary,
    /// DEL, one at a time.
    pub(crate) del: Summary,
}

/// Fills hosts with dual-stack pods to each of the levels (in rising order), and there attaches and detaches `sample` pods more.
///
/// # Errors
/// What a plugin has said.
pub(crate) fn measure(
    levels: &[usize],
    sample: usize,
    tools: &Tools,
    shared: &Path,
    quiet: &Quiet,
) -> Result<Vec<Growth>, String> {
    let lanes = CONTESTANTS.map(|contestant| Lane::new(contestant, 0, Duplicates::Ignored, shared, tools));
    let mut lanes: Vec<_> = lanes.into_iter().collect::<Result<_, _>>()?;
    let mut growth = Vec::new();
    let mut filled = 0;
    for level in levels {
        for lane in &mut lanes {
            // No more namespaces than that: they cost, too.
            lane.grow(level + sample)?;
            race::at_once(lane, &lane.pods[filled..*level], Verb::Add)?;
        }
        filled = *level;
        let all: Vec<_> = lanes.iter().collect();
        let times = race::in_turn(&all, filled..filled + sample, quiet)?;
        for (lane, (add, del)) in lanes.iter().zip(times) {
            let (Some(add), Some(del)) = (Summary::of(&add), Summary::of(&del)) else { continue };
            growth.push(Growth { contestant: lane.contestant, pods: filled, add, del });
        }
    }
    Ok(growth)
}
