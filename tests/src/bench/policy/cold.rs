//! From objects that are known to policies in force, by their number, and what that costs in memory.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::cluster::Size;
use super::stage::Stage;
use crate::statistics::{median, rounded};

/// With so many policies.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cold {
    /// How many.
    pub(crate) policies: u32,
    /// Pods of the cluster.
    pub(crate) pods: u32,
    /// Nodes of the cluster.
    pub(crate) nodes: u32,
    /// From the last object to policies in force, in seconds: the median of the tries.
    pub(crate) cold_s: f64,
    /// All of the tries.
    pub(crate) all_s: Vec<f64>,
    /// The elements of all sets.
    pub(crate) elements: usize,
    /// The resident memory some seconds later, in MB: the largest.
    pub(crate) resident_mb: f64,
    /// The resident memory at its peak, in MB: the largest.
    pub(crate) peak_mb: f64,
    /// By how much the kernel's own memory has grown, in MB: the median. Others' work is in it.
    pub(crate) kernel_mb: f64,
}

/// Measures a cluster, each try on a node of its own.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(size: Size, tries: usize, podwired: &Path, shared: &Path) -> Result<Cold, String> {
    let directory = shared.join(format!("policies-{}", size.policies));
    let (mut times, mut kernel) = (Vec::new(), Vec::new());
    let (mut resident, mut peak, mut elements) = (0, 0, 0);
    for _ in 0..tries {
        let stage = Stage::new(size, podwired, &directory)?;
        let before = kernel_memory()?;
        times.push(rounded(stage.put_in_force()?.as_secs_f64()));
        kernel.push(rounded(kernel_memory()? - before));
        elements = self::elements(&stage)?;
        // What has been taken for the start is given back by then.
        thread::sleep(Duration::from_secs(3));
        let weight = stage.daemon.weight()?;
        (resident, peak) = (resident.max(weight.now), peak.max(weight.peak));
    }
    Ok(Cold {
        policies: size.policies,
        pods: size.pods,
        nodes: size.nodes,
        cold_s: median(&times).unwrap_or_default(),
        all_s: times,
        elements,
        resident_mb: megabytes(resident),
        peak_mb: megabytes(peak),
        kernel_mb: median(&kernel).unwrap_or_default(),
    })
}

fn elements(stage: &Stage) -> Result<usize, String> {
    let text = stage.host.run("nft", &["--json", "list", "table", "inet", "podwire-policy"])?;
    let listed: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("read nft's list: {error}"))?;
    let sets = listed["nftables"].as_array().into_iter().flatten();
    let count = |one: &serde_json::Value| {
        let set = if one["set"].is_object() { &one["set"] } else { &one["map"] };
        set["elem"].as_array().map_or(0, Vec::len)
    };
    Ok(sets.map(count).sum())
}

/// What the kernel cannot give back, and its large tables, in MB: `SUnreclaim` and `VmallocUsed` of proc(5).
fn kernel_memory() -> Result<f64, String> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|error| format!("read /proc/meminfo: {error}"))?;
    let field = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let both = field("SUnreclaim:").zip(field("VmallocUsed:"));
    both.map(|(slab, large)| megabytes(slab + large)).ok_or_else(|| "no SUnreclaim in /proc/meminfo".into())
}

fn megabytes(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the memory of one machine")]
    let bytes = kib as f64 * 1024.0;
    rounded(bytes / 1e6)
}
