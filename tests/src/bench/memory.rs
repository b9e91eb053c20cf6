//! The memory that a contestant's processes take at their peak.

use std::fs;
use std::path::Path;

use podwire_tests::lab::host::SHARED;
use serde::Serialize;

use crate::contestant::{Contestant, Verb};
use crate::lane::{Lane, Pod};
use crate::tools::Tools;

/// The file in which `peak` leaves the number.
const NUMBER: &str = "peak";

/// The largest resident set of any process of any call.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Memory {
    /// Whose.
    pub(crate) contestant: Contestant,
    /// In KiB.
    pub(crate) peak_kib: u64,
}

/// Attaches and detaches some pods of a lane once more, with each process weighed.
///
/// # Errors
/// What a plugin has said.
pub(crate) fn weigh(lane: &Lane, pods: &[Pod], tools: &Tools) -> Result<Memory, String> {
    let file = Path::new(SHARED).join(NUMBER);
    let mut peak_kib = 0;
    for verb in [Verb::Add, Verb::Del] {
        for pod in pods {
            lane.host.enter(|| {
                lane.each(pod, verb, |step| {
                    let outcome = step.clone().weighed(&tools.peak, &file).execute()?;
                    peak_kib = peak_kib.max(read(&file)?);
                    Ok(outcome)
                })
            })?;
        }
    }
    Ok(Memory { contestant: lane.contestant, peak_kib })
}

fn read(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    text.trim().parse().map_err(|error| format!("read {}: {error}: {text:?}", path.display()))
}
