//! A cluster that does not come to rest: joins, leaves and changes several times a second. At the end the node has to
//! have just what a node has that knows the last membership only.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::eventually;
use podwire_tests::lab::host::Host;
use serde::Serialize;

use super::layout;
use super::plan::{self, Entry};
use super::program::Podwired;
use crate::statistics::rounded;

/// The time between two changes of the file.
const EVERY: Duration = Duration::from_millis(150);

/// How long after the last change the daemon may go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Churn {
    /// Nodes at the beginning.
    pub(crate) nodes: u32,
    /// How long it went on.
    pub(crate) seconds: f64,
    /// How many times the file was written.
    pub(crate) changes: usize,
    /// How long after the last change it was as it should be, in seconds.
    pub(crate) settled_s: Option<f64>,
    /// What was otherwise than on a node that was started on the last file; nothing is what has to be.
    pub(crate) differences: Vec<String>,
    /// What a daemon that was started again on the same node had to say and change; nothing is what has to be.
    pub(crate) changed_by_restart: Vec<String>,
}

/// Plays it for some time.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(nodes: u32, length: Duration, podwired: &Path, shared: &Path) -> Result<Churn, String> {
    let directory = shared.join("churn");
    let (_switch, host) = layout::lonely("node", 1, &directory)?;
    let mut entries: Vec<_> = (1..=nodes).map(Entry::of).collect();
    plan::write(&directory, &plan::text(&entries))?;
    let daemon = Podwired::start(podwired, &host, 1)?;
    daemon.wait_for("ready: ")?;
    let mut dice = Dice(0x5eed);
    let (start, mut changes, mut next) = (Instant::now(), 0, nodes + 1);
    while start.elapsed() < length {
        // Mostly one at a time, now and then many.
        let changes_at_once = if dice.roll(10) == 0 { 60 } else { 1 + dice.roll(3) };
        for _ in 0..changes_at_once {
            one(&mut entries, &mut next, nodes, &mut dice);
        }
        plan::write(&directory, &plan::text(&entries))?;
        changes += 1;
        thread::sleep(EVERY);
    }
    let (end, seconds) = (Instant::now(), rounded(start.elapsed().as_secs_f64()));

    let (_switch, fresh) = layout::lonely("fresh", 1, &directory)?;
    Podwired::start(podwired, &fresh, 1)?.wait_for("ready: ")?;
    let wanted = look(&fresh)?;
    let differ = || match differences(&look(&host)?, &wanted) {
        found if found.is_empty() => Ok(()),
        found => Err(found.join("\n")),
    };
    let (settled_s, differences) = match eventually(PATIENCE, differ) {
        Ok(()) => (Some(rounded(end.elapsed().as_secs_f64())), Vec::new()),
        Err(why) => (None, why.lines().map(str::to_owned).collect()),
    };
    let refused = daemon.said().into_iter().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let differences = differences.into_iter().chain(refused).collect();
    drop(daemon);
    let before = exact(&host)?;
    let again = Podwired::start(podwired, &host, 1)?;
    again.wait_for("ready: ")?;
    let changed = self::differences(&exact(&host)?, &before);
    Ok(Churn { nodes, seconds, changes, settled_s, differences, changed_by_restart: changed })
}

/// One change: a node joins, leaves, or changes its address or its pods' addresses. The first is the one that looks on.
fn one(entries: &mut Vec<Entry>, next: &mut u32, nodes: u32, dice: &mut Dice) {
    let place = 1 + dice.roll(entries.len() - 1);
    let new = *next;
    *next += 1;
    let many = entries.len() > nodes as usize;
    match (dice.roll(4), many) {
        (0, false) | (1, false) => entries.insert(place, Entry::of(new)),
        (0 | 1, true) => _ = entries.remove(place),
        (2, _) => entries[place].address = new,
        _ => entries[place].pods = new,
    }
}

/// What a node has, by kind: without the ids of nexthops, which depend on who came first, and in a fixed order.
fn look(host: &Host) -> Result<BTreeMap<&'static str, Vec<String>>, String> {
    let mut state = exact(host)?;
    let nexthops = state.get_mut("nexthops").ok_or("no nexthops")?;
    for line in nexthops.iter_mut() {
        *line = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    }
    nexthops.sort();
    for routes in ["routes", "routes6"] {
        for line in state.get_mut(routes).ok_or("no routes")? {
            // A route is shown with all of its nexthop behind the id.
            let words: Vec<_> = line.split_whitespace().collect();
            let id = words.iter().position(|word| *word == "nhid").map(|place| place + 1);
            let rest = words.iter().enumerate().filter(|(place, _)| Some(*place) != id).map(|(_, word)| *word);
            *line = rest.collect::<Vec<_>>().join(" ");
        }
    }
    Ok(state)
}

/// What a node has, by kind.
fn exact(host: &Host) -> Result<BTreeMap<&'static str, Vec<String>>, String> {
    let looks: [(&str, &str, &[&str]); 7] = [
        ("addresses", "ip", &["-oneline", "address", "show", "dev", "podwire.1", "scope", "global"]),
        ("routes", "ip", &["-4", "route", "show", "table", "all"]),
        ("routes6", "ip", &["-6", "route", "show", "proto", "112"]),
        ("nexthops", "ip", &["nexthop"]),
        ("neighbours", "ip", &["neighbour", "show", "dev", "podwire.1", "nud", "permanent"]),
        ("networks", "bridge", &["vni"]),
        ("firewall", "nft", &["list", "table", "inet", "podwire"]),
    ];
    let mut state = BTreeMap::new();
    for (name, program, arguments) in looks {
        let text = host.run(program, arguments)?;
        let mut lines: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        if name != "firewall" {
            lines.sort();
        }
        state.insert(name, lines);
    }
    Ok(state)
}

/// Lines that only one of two states has.
fn differences(
    found: &BTreeMap<&'static str, Vec<String>>,
    wanted: &BTreeMap<&'static str, Vec<String>>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (kind, wanted) in wanted {
        let found = found.get(kind).cloned().unwrap_or_default();
        if found.len() == wanted.len() && found.iter().zip(wanted).all(|(one, other)| one == other) {
            continue;
        }
        let only = |these: &[String], those: &[String], what: &str| {
            let those: std::collections::BTreeSet<_> = those.iter().collect();
            let missing = these.iter().filter(|line| !those.contains(line)).take(5);
            missing.map(|line| format!("{kind}: {what} {line}")).collect::<Vec<_>>()
        };
        differences.push(format!("{kind}: {} instead of {}", found.len(), wanted.len()));
        differences.extend(only(&found, wanted, "has"));
        differences.extend(only(wanted, &found, "lacks"));
    }
    differences
}

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides.max(1)
    }
}
