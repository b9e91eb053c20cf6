//! Where addresses come from: the ranges and routes of the pods, or another plugin.

use serde::Serialize;

use crate::invalid::{Invalid, invalid};
use crate::json::Field;
use crate::range::Range;
use crate::route::Route;

/// Addresses and routes of the pods, with the keys of the reference plugin host-local.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ipam {
    /// The IPAM plugin: absent or `podwire` for the built-in ledger, else the name of another plugin.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A pod gets one address from each set; a set is searched range by range.
    pub ranges: Vec<Vec<Range>>,
    /// Routes of the pod, through the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// A file in the format of resolv.conf, whose name servers are returned to the runtime.
    #[serde(rename = "resolvConf", skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<String>,
}

impl Ipam {
    /// Whether addresses come from another plugin.
    pub fn delegate(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| *kind != "podwire")
    }

    pub(crate) fn read(field: &Field<'_>, mut sets: Vec<Vec<(String, Range)>>) -> Result<Self, Invalid> {
        let kind = field.get("type")?.map(|kind| kind.text().map(str::to_owned)).transpose()?;
        let kind = kind.filter(|kind| !kind.is_empty());
        if field.get("subnet")?.is_some() {
            sets.push(vec![Range::read(field)?]);
        }
        if let Some(ranges) = field.get("ranges")? {
            sets.extend(read_sets(&ranges)?);
        }
        let resolv_conf = field.get("resolvConf")?.map(|path| path.text().map(str::to_owned)).transpose()?;
        let mut ipam = Self { kind, ranges: Vec::new(), routes: Vec::new(), resolv_conf };
        if ipam.delegate().is_some() {
            // The other plugin validates its own keys.
            return Ok(ipam);
        }
        if sets.is_empty() {
            return invalid(
                format!("{}.ranges", field.path()),
                "is missing or empty: there would be no address for pods",
            );
        }
        check_sets(&sets)?;
        ipam.ranges = sets.into_iter().map(|set| set.into_iter().map(|(_, range)| range).collect()).collect();
        if let Some(routes) = field.get("routes")? {
            ipam.routes =
                routes.list()?.iter().map(|route| Route::read(route, &ipam.ranges)).collect::<Result<_, _>>()?;
        }
        Ok(ipam)
    }
}

/// Checks that a set has one family, and that no address is in two ranges.
fn check_sets(sets: &[Vec<(String, Range)>]) -> Result<(), Invalid> {
    let mut seen: Vec<&(String, Range)> = Vec::new();
    for set in sets {
        for entry in set {
            let (field, range) = entry;
            if range.subnet.is_ipv4() != set[0].1.subnet.is_ipv4() {
                return invalid(field, "mixes IPv4 and IPv6 in one set: a pod gets one address from each set");
            }
            let shares = |other: &Range| {
                other.subnet.is_ipv4() == range.subnet.is_ipv4()
                    && other.first() <= range.last()
                    && range.first() <= other.last()
            };
            if let Some((place, other)) = seen.iter().find(|(_, other)| shares(other)) {
                return invalid(field, format!("{range} overlaps {other} of {place}"));
            }
            seen.push(entry);
        }
    }
    Ok(())
}

/// A list of sets; a flat list of ranges, as some runtimes write it, is one set.
pub(crate) fn read_sets(field: &Field<'_>) -> Result<Vec<Vec<(String, Range)>>, Invalid> {
    let entries = field.list()?;
    if entries.first().is_some_and(|first| !first.is_list()) {
        return Ok(vec![entries.iter().map(Range::read).collect::<Result<_, _>>()?]);
    }
    entries
        .iter()
        .map(|set| match set.list()? {
            ranges if ranges.is_empty() => set.refuse("is empty: there would be no address for pods"),
            ranges => ranges.iter().map(Range::read).collect(),
        })
        .collect()
}
