//! Whether an ADD costs more when nearly all addresses of the range are held. Knows how the plugin's ledger looks, as
//! nothing else of the bench does.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::contestant::{Contestant, Verb};
use crate::lane::{Duplicates, Lane};
use crate::memory::{self, Memory};
use crate::quiet::Quiet;
use crate::race;
use crate::statistics::Summary;
use crate::tools::Tools;

/// The ledger of the network that the lanes use.
const LEDGER: &str = "/run/podwire/bench";

/// The first address that a /16 gives, and how many it has: not the network, the gateway, the broadcast address.
const FIRST: u32 = u32::from_be_bytes([10, 32, 0, 2]);
const ALL: u32 = 65_533;

/// What an ADD takes beside an empty range.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Held {
    /// How many addresses were held.
    pub(crate) held: u32,
    /// Of how many.
    pub(crate) of: u32,
    /// ADD with no address held.
    pub(crate) empty: Summary,
    /// ADD with so many held.
    pub(crate) full: Summary,
    /// The memory at peak with so many held.
    pub(crate) memory: Memory,
}

/// Attaches pods by turns on a host whose ledger is empty, and on one whose ledger holds many addresses.
///
/// # Errors
/// What the plugin has said, or when the ledger could not be filled.
pub(crate) fn measure(held: u32, sample: usize, tools: &Tools, shared: &Path, quiet: &Quiet) -> Result<Held, String> {
    let lane = || Lane::new(Contestant::Podwire, sample + 1, Duplicates::Ignored, shared, tools);
    let (empty, full) = (lane()?, lane()?);
    for lane in [&empty, &full] {
        // It stays, and shows what a claim looks like.
        lane.visit(&lane.pods[0], Verb::Add)?;
    }
    full.host.enter(|| fill(Path::new(LEDGER), held))?;
    for lane in [&empty, &full] {
        // What the plugin has to make anew after that is no part of an ADD.
        lane.visit(&lane.pods[1], Verb::Add)?;
        lane.visit(&lane.pods[1], Verb::Del)?;
    }
    let times = race::in_turn(&[&empty, &full], 1..sample + 1, quiet)?;
    let summary = |place: usize| Summary::of(&times[place].0).ok_or("no pods were attached");
    let memory = memory::weigh(&full, &full.pods[1..2], tools)?;
    let counted = full.host.enter(|| claims(Path::new(LEDGER)).map(|claims| claims.len()))?;
    let expected = usize::try_from(held).map_err(|error| error.to_string())?;
    if counted != expected {
        return Err(format!(
            "{counted} IPv4 addresses were held, not {expected}: the plugin does not honour the claims"
        ));
    }
    Ok(Held { held, of: ALL, empty: summary(0)?, full: summary(1)?, memory })
}

/// Adds claims until `held` IPv4 addresses are held, spread over the range as on a node on which pods come and go. They
/// are like the one that is there, by which a claim's form is known. The index goes: it tells what is no longer true, and
/// the plugin makes it anew.
fn fill(ledger: &Path, held: u32) -> Result<(), String> {
    let failed = |wish: &str, path: &Path, error: std::io::Error| format!("{wish} {}: {error}", path.display());
    let like = claims(ledger)?.pop().ok_or("the plugin has made no claim for the pod that is attached")?;
    let target = fs::read_link(&like).ok();
    let content = match target {
        Some(_) => Vec::new(),
        None => fs::read(&like).map_err(|error| failed("read", &like, error))?,
    };
    let mut order: Vec<u32> = (FIRST..FIRST + ALL).collect();
    shuffle(&mut order);
    let mut missing = held.saturating_sub(1);
    for address in order {
        if missing == 0 {
            break;
        }
        let path = like.with_file_name(Ipv4Addr::from_bits(address).to_string());
        if path == like {
            continue;
        }
        let made = match &target {
            Some(target) => symlink(target, &path),
            None => fs::write(&path, &content),
        };
        made.map_err(|error| failed("make", &path, error))?;
        missing -= 1;
    }
    let index = ledger.join("index");
    match fs::remove_file(&index) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", &index, error)),
        _ => Ok(()),
    }
}

/// The claims of IPv4 addresses.
fn claims(ledger: &Path) -> Result<Vec<PathBuf>, String> {
    let directory = ledger.join("claims");
    let entries = fs::read_dir(&directory).map_err(|error| format!("list {}: {error}", directory.display()))?;
    let is_ipv4 = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<Ipv4Addr>().ok()).is_some();
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_ipv4).collect())
}

/// The same disorder in every run (a linear congruential generator; Fisher and Yates).
fn shuffle(order: &mut [u32]) {
    let mut state: u64 = 1;
    for last in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = usize::try_from((state >> 33) % (last as u64 + 1)).unwrap_or_default();
        order.swap(last, choice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_added_in_the_shape_of_the_existing_one() {
        let ledger = std::env::temp_dir().join(format!("podwire-bench-held-{}", std::process::id()));
        let claims_at = ledger.join("claims");
        for link in [true, false] {
            fs::create_dir_all(&claims_at).unwrap();
            fs::write(ledger.join("index"), "{}").unwrap();
            fs::write(claims_at.join("fd00::2"), "other").unwrap();
            match link {
                true => symlink("holder", claims_at.join("10.32.0.2")).unwrap(),
                false => fs::write(claims_at.join("10.32.0.2"), "holder").unwrap(),
            }
            fill(&ledger, 100).unwrap();
            let made = claims(&ledger).unwrap();
            assert_eq!(made.len(), 100);
            assert!(made.iter().all(|path| path.is_symlink() == link));
            assert!(link || made.iter().all(|path| fs::read(path).unwrap() == b"holder"));
            // Spread: not the hundred lowest.
            assert!(!claims_at.join("10.32.0.100").exists() || !claims_at.join("10.32.0.101").exists());
            assert!(!ledger.join("index").exists());
            fs::remove_dir_all(&ledger).unwrap();
        }
    }
}
