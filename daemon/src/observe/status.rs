//! What a node says of itself when it is asked: one document, the same for `podwired status --json`, for the human table
//! and for the metrics. Its keys are stable and described in docs/daemon.md.

pub mod client;
pub mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::cluster::view::{self, View};
use crate::datapath::overlay::desired;
use crate::node::stale_addresses::{self, Stray};
use crate::observe::snapshot::Local;
use crate::report::{Echoes, Path, Probed, Report, Source};

/// Sentences of one kind that are listed; the others are counted.
const NAMED: usize = 5;

/// What [`Status::fast_path`] is where there is one.
pub const FAST_PATH_ON: &str = "on";

/// The state of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// podwired's version.
    pub version: String,
    /// The name of the node.
    pub node: String,
    /// Its address on the underlay; nothing while it takes no part.
    pub address: Option<IpAddr>,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// The ranges of the cluster.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// When packets to peers are tunnelled.
    pub mode: String,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of the overlay.
    pub port: u16,
    /// The largest packet of the overlay and the pods, in bytes.
    pub mtu: Option<u32>,
    /// The largest packet of the underlay's device, in bytes.
    pub underlay_mtu: Option<u32>,
    /// "on", or why established connections take no fast path.
    pub fast_path: String,
    /// The conflist's place.
    pub conflist: String,
    /// The directory that the plugin is kept in; nothing where podwired does not install it.
    #[serde(default)]
    pub plugin_directory: Option<PathBuf>,
    /// Who says who the nodes are.
    pub membership: Membership,
    /// Whether the kernel and the conflist are as the cluster says.
    pub converged: bool,
    /// What is wrong, each a sentence; nothing where all is well.
    pub wrong: Vec<String>,
    /// The daemon's work.
    pub daemon: Daemon,
    /// The other nodes, by name.
    pub peers: Vec<Peer>,
    /// Entries of the membership that are not believed.
    pub refused: Vec<Refused>,
    /// The addresses of this node's pods.
    pub ranges: Vec<Range>,
    /// Packets that each guard has refused; nothing where they are not known.
    pub guards: BTreeMap<String, u64>,
    /// How long the ADDs of this boot took; nothing where there were none.
    pub adds: Option<Adds>,
}

/// Who says who the nodes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Where it is read.
    pub source: String,
    /// Whether it can be read there at present. What was believed last is believed until it can.
    pub connected: bool,
    /// Whether it is what was kept on disk before the start.
    pub stored: bool,
    /// Seconds since it was last found changed.
    pub age_seconds: u64,
    /// The nodes that are believed, this one included.
    pub nodes: usize,
}

/// The daemon's work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Seconds since its start.
    pub age_seconds: u64,
    /// Seconds since the last pass ended.
    pub last_pass_age_seconds: Option<f64>,
    /// How long the last pass took.
    pub last_pass_seconds: f64,
    /// Passes since the start.
    pub passes: u64,
    /// Those of them that looked at a few changed peers only.
    #[serde(default)]
    pub short_passes: u64,
    /// Changes made since the start, by kind.
    pub changes: BTreeMap<String, u64>,
    /// Those of them that put right what had been right before.
    pub repairs: BTreeMap<String, u64>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Whether it answers over the overlay.
    pub state: PeerState,
    /// What each of its overlay addresses has answered.
    pub probes: Vec<Probe>,
    /// The largest packet that came through to its node, in bytes, where the way has been measured.
    pub path_mtu: Option<u32>,
}

/// Whether a peer answers over the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// It has not been asked yet, or is not asked.
    Unknown,
    /// Every address of it answers.
    Answers,
    /// An address of it has not answered three times in a row.
    Silent,
}

impl PeerState {
    /// All of them, with their names.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Answers, "answers"), (Self::Silent, "silent"), (Self::Unknown, "unknown")];
}

/// What an overlay address has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The address.
    pub address: IpAddr,
    /// The round trip, smoothed.
    pub round_trip_microseconds: Option<u32>,
    /// How many of the last 16 probes were lost.
    pub loss_percent: u32,
}

/// An entry of the membership that is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The node; empty for the cluster itself.
    pub node: String,
    /// Why.
    pub why: String,
}

/// A range of addresses of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The range.
    pub range: IpNetwork,
    /// Addresses that are held.
    pub used: u64,
    /// Addresses that could be given. Of large ranges of IPv6 no more than 2^53 are counted.
    pub free: u64,
}

/// How long ADDs took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Adds {
    /// How many there were.
    pub count: u64,
    /// How long they took altogether.
    pub seconds: f64,
    /// How many took no longer than so many microseconds.
    pub within_microseconds: BTreeMap<u64, u64>,
}

/// Numbers of JSON are exact up to here.
const LARGEST: u128 = 1 << 53;

impl Status {
    /// The status after the last pass, with what was found on the node just now.
    pub fn new(report: &Report, local: Local, now: Instant) -> Self {
        let view = report.view.as_ref().and_then(|view| view.as_ref().ok());
        let age = |then: Instant| now.saturating_duration_since(then);
        let counts = |counts: &crate::report::change_kind::Counts| {
            counts.named().map(|(name, count)| (name.to_owned(), count)).collect()
        };
        let peers = view.map(|view| peers(view, report)).unwrap_or_default();
        let refused = match &report.view {
            Some(Ok(view)) => view.refused.as_slice(),
            Some(Err(own)) => std::slice::from_ref(own),
            None => &[],
        };
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            node: report.node.clone(),
            address: view.map(|view| view.own.address),
            pod_cidrs: view.map(|view| view.own.pod_cidrs.clone()).unwrap_or_default(),
            cluster_cidrs: view.map(|view| view.cluster_cidrs.clone()).unwrap_or_default(),
            mode: report.settings.overlay.to_string(),
            vni: report.settings.vni,
            port: report.settings.port,
            mtu: report.mtu.map(|mtu| mtu.overlay),
            underlay_mtu: report.mtu.map(|mtu| mtu.underlay),
            fast_path: report.fast_path.clone(),
            conflist: report.conflist.display().to_string(),
            plugin_directory: report.plugin_directory.clone(),
            membership: Membership {
                source: report.source.clone(),
                connected: report.feed.connected,
                stored: report.feed.source == Some(Source::Stored),
                age_seconds: report.view_since.map_or(0, |then| age(then).as_secs()),
                nodes: view.map_or(0, |view| view.peers.len() + 1),
            },
            converged: report.converged,
            wrong: wrong(report, &peers, &local, now),
            daemon: Daemon {
                age_seconds: report.started.map_or(0, |then| age(then).as_secs()),
                last_pass_age_seconds: report.last_pass.map(|then| age(then).as_secs_f64()),
                last_pass_seconds: report.pass_took.as_secs_f64(),
                passes: report.passes,
                short_passes: report.short_passes,
                changes: counts(&report.made),
                repairs: counts(&report.repaired),
            },
            peers,
            refused: refused.iter().map(|one| Refused { node: one.node.clone(), why: one.why.clone() }).collect(),
            ranges: view.map(|view| ranges(view, &local.held)).unwrap_or_default(),
            guards: local.guards,
            adds: local.adds,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.converged && self.wrong.is_empty()
    }
}

fn peers(view: &View, report: &Report) -> Vec<Peer> {
    let peer = |(name, peer): (&String, &view::Peer)| {
        let probed = report.probes.get(name.as_str());
        let probe = |(address, echoes): (IpAddr, Echoes)| Probe {
            address,
            round_trip_microseconds: echoes.round_trip(),
            loss_percent: echoes.loss_percent(),
        };
        Peer {
            name: name.clone(),
            address: peer.address,
            pod_cidrs: peer.pod_cidrs.clone(),
            state: state(probed),
            probes: echoes(&view.own, peer, probed).map(probe).collect(),
            path_mtu: probed.and_then(|probed| probed.path).map(|path| path.largest),
        }
    };
    view.peers.iter().map(peer).collect()
}

/// What each overlay address of a peer has answered.
fn echoes<'a>(
    own: &'a view::Peer,
    peer: &'a view::Peer,
    probed: Option<&'a Probed>,
) -> impl Iterator<Item = (IpAddr, Echoes)> {
    let addresses = own.overlay_addresses(peer).into_iter().map(|(_, address)| address);
    addresses.filter_map(move |address| Some((address, probed?.overlay[usize::from(address.is_ipv6())]?)))
}

fn state(probed: Option<&Probed>) -> PeerState {
    let answers: Vec<_> =
        probed.into_iter().flat_map(|probed| probed.overlay.iter().flatten().map(Echoes::answers)).collect();
    if answers.contains(&Some(false)) {
        PeerState::Silent
    } else if answers.is_empty() || answers.contains(&None) {
        PeerState::Unknown
    } else {
        PeerState::Answers
    }
}

/// How a sentence about a membership ends that cannot be read.
pub(crate) const KEPT: &str = "what was believed last is kept";

/// What is wrong: what the passes could not do, who is not believed, whom the probes do not reach, and which pods no peer
/// reaches.
fn wrong(report: &Report, peers: &[Peer], local: &Local, now: Instant) -> Vec<String> {
    let mut wrong = report.problems.clone();
    if let Some(error) = report.feed.error.as_ref() {
        wrong.push(format!("{error}; {KEPT}"));
    }
    match &report.view {
        None => wrong.push(match &report.feed.waits_for {
            Some(lacks) => lacks.clone(),
            None => "the membership has not been read yet".into(),
        }),
        Some(Err(own)) => wrong.push(own.to_string()),
        Some(Ok(view)) => wrong.extend(view.refused.iter().map(ToString::to_string)),
    }
    if report.is_unrest(now) {
        let kinds = report.repaired.named().filter(|(_, count)| *count > 0);
        let kinds: Vec<_> = kinds.map(|(kind, count)| format!("{kind}: {count}")).collect();
        wrong.push(format!(
            "within the last minute somebody has undone again and again what podwired puts right (repairs so far: {}), and packets \
             were lost: `podwired doctor` says whether that goes on",
            kinds.join(", ")
        ));
    }
    let silent = |peer: &Peer| {
        let probed = report.probes.get(peer.name.as_str());
        let named = |address: &IpAddr| {
            let echoes = probed.and_then(|probed| probed.overlay[usize::from(address.is_ipv6())]);
            echoes.and_then(|echoes| echoes.answers()) == Some(false)
        };
        let addresses: Vec<_> =
            peer.probes.iter().map(|probe| probe.address).filter(named).map(|address| address.to_string()).collect();
        format!(
            "peer {} ({}) does not answer over the overlay ({}): `podwired doctor` looks for the cause",
            peer.name,
            peer.address,
            addresses.join(", ")
        )
    };
    listed(
        &mut wrong,
        peers.iter().filter(|peer| peer.state == PeerState::Silent).map(silent),
        "more peers do not answer",
    );
    let smaller = |peer: &Peer| {
        let path = report.probes.get(peer.name.as_str())?.path.filter(|path| path.largest < path.wanted)?;
        let Path { largest, wanted } = path;
        Some(format!(
            "the way to {} ({}) takes packets of {largest} bytes at most, although the underlay's MTU here is \
             {wanted}: set the underlay's MTU to what the way takes, or repair the way",
            peer.name, peer.address
        ))
    };
    listed(&mut wrong, peers.iter().filter_map(smaller), "more peers are behind a way that takes less than the MTU");
    if let Some(Ok(view)) = &report.view {
        let strays = stale_addresses::of(&local.attachments, &view.own.pod_cidrs);
        listed(&mut wrong, strays.iter().map(Stray::sentence), "more pods have addresses that no other node reaches");
    }
    wrong.extend_from_slice(&local.unread);
    wrong
}

/// The first few sentences, and the number of the others.
fn listed(wrong: &mut Vec<String>, mut sentences: impl Iterator<Item = String>, others: &str) {
    wrong.extend(sentences.by_ref().take(NAMED));
    let left = sentences.count();
    if left > 0 {
        wrong.push(format!("{left} {others}"));
    }
}

/// How many addresses of each own pod CIDR are held; a range that pods still have addresses of, although it is the node's
/// no longer, is none of these.
fn ranges(view: &View, held: &[IpAddr]) -> Vec<Range> {
    let of = |range: &podwire_conf::Range| {
        let used = held.iter().filter(|address| range.subnet.contains(**address)).count() as u64;
        let all = podwire_attachment::ipam::size(std::slice::from_ref(range)).min(LARGEST);
        let free = u64::try_from(all).unwrap_or(u64::MAX).saturating_sub(used);
        Range { range: range.subnet, used, free }
    };
    desired::ranges(view).iter().flatten().map(of).collect()
}

#[cfg(test)]
mod tests;
