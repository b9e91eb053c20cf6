//! From nothing to every route in the kernel, by the number of peers; what that costs in memory; and a repair beside them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::{SOON, eventually};
use serde::Serialize;

use super::layout;
use super::plan::{self, Entry};
use super::program::Podwired;
use crate::statistics::{median, rounded};

/// With so many peers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Scale {
    /// How many.
    pub(crate) peers: u32,
    /// From the start of the process to "ready", in seconds, where nothing was: the median of the tries.
    pub(crate) cold_s: f64,
    /// From the daemon's first line, when it has read the membership, to "ready", in seconds.
    pub(crate) program_s: f64,
    /// From the start of the process to "ready", in seconds, where all was already.
    pub(crate) restart_s: f64,
    /// The peers of the flannel layout (IPv4 only) by `ip -batch` and `bridge -batch`, in seconds.
    pub(crate) flannel_s: f64,
    /// The resident memory after both starts, in MB: the largest.
    pub(crate) resident_mb: f64,
    /// The resident memory at its peak, in MB: the largest.
    pub(crate) peak_mb: f64,
    /// From the deletion of a route to its return, in milliseconds: the best of the tries.
    pub(crate) repair_ms: f64,
    /// All of the tries.
    pub(crate) repairs_ms: Vec<f64>,
}

/// After this the file is not looked at twice.
const OLD_ENOUGH: Duration = Duration::from_millis(1_100);

/// Measures a number of peers, each try on a host of its own.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(peers: u32, tries: usize, podwired: &Path, shared: &Path) -> Result<Scale, String> {
    let directory = shared.join(format!("scale-{peers}"));
    let (mut cold, mut program, mut restart, mut flannel) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut resident, mut peak) = (0, 0);
    let mut repairs = Vec::new();
    for _ in 0..tries {
        let (_switch, host) = layout::lonely("node", 1, &directory)?;
        plan::write(&directory, &plan::text(&(1..=peers + 1).map(Entry::of).collect::<Vec<_>>()))?;
        // As a node finds its file when it comes up: not written this very moment.
        thread::sleep(OLD_ENOUGH);
        let mut start = || -> Result<(Podwired, Duration, Duration), String> {
            let daemon = Podwired::start(podwired, &host, 1)?;
            let (first, _) = daemon.wait_for(" starts")?;
            let (ready, _) = daemon.wait_for("ready: ")?;
            require(&host, peers)?;
            let weight = daemon.weight()?;
            (resident, peak) = (resident.max(weight.now), peak.max(weight.peak));
            let (whole, program) = (ready - daemon.begun, ready - first);
            Ok((daemon, whole, program))
        };
        let (daemon, took, of_program) = start()?;
        cold.push(took.as_secs_f64());
        program.push(of_program.as_secs_f64());
        drop(daemon);
        let (daemon, took, _) = start()?;
        restart.push(took.as_secs_f64());
        repairs.push(repair(&host, peers)?);
        let weight = daemon.weight()?;
        (resident, peak) = (resident.max(weight.now), peak.max(weight.peak));
        drop(daemon);
        let (_switch, host) = layout::lonely("flannel", 1, &directory)?;
        flannel.push(layout::flannel(&host, 1, peers)?.as_secs_f64());
    }
    let middle = |times: &[f64]| median(times).map(rounded).unwrap_or_default();
    Ok(Scale {
        peers,
        cold_s: middle(&cold),
        program_s: middle(&program),
        restart_s: middle(&restart),
        flannel_s: middle(&flannel),
        resident_mb: megabytes(resident),
        peak_mb: megabytes(peak),
        repair_ms: repairs.iter().copied().reduce(f64::min).unwrap_or_default(),
        repairs_ms: repairs,
    })
}

/// That the node has both routes of every peer.
fn require(host: &Host, peers: u32) -> Result<(), String> {
    for family in ["-4", "-6"] {
        let routes = host.run("ip", &[family, "route", "show", "proto", "112"])?;
        let found = routes.lines().filter(|line| line.contains(" nhid ")).count();
        if found != peers as usize {
            return Err(format!("{found} routes to {peers} peers are there when podwired says that it is ready"));
        }
    }
    Ok(())
}

/// Deletes a route of the last peer, in a quiet time: how long it takes to come back, in milliseconds.
fn repair(host: &Host, peers: u32) -> Result<f64, String> {
    // Nothing is waited for: what the start has left to do is over.
    thread::sleep(Duration::from_secs(1));
    let (pods, _) = plan::pods(peers + 1);
    let route = format!("{pods}/24");
    host.run("ip", &["route", "delete", &route])?;
    let start = Instant::now();
    eventually(SOON, || match host.run("ip", &["route", "show", &route])?.contains(" nhid ") {
        true => Ok(()),
        false => Err(format!("{route} does not come back")),
    })?;
    Ok(rounded(start.elapsed().as_secs_f64() * 1e3))
}

fn megabytes(kib: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the memory of one process")]
    let bytes = kib as f64 * 1024.0;
    rounded(bytes / 1e6)
}
