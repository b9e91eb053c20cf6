//! The status document: the types behind `podwired status --json`. Keys are added, never changed or taken away; kinds and
//! states are added, and an older podwired that asks a newer one keeps those that it does not know as they are.
//!
//! Serde types only. What may not live here: where the values come from (`build`), and how they are shown (`table`,
//! `metrics`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::report::named::Documented;
use crate::report::outcome::FastPathState;
use crate::report::problem::{Problem, ProblemKind};

/// The state of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// podwired's version.
    pub version: String,
    /// The name of the node.
    pub node: String,
    /// Its address on the underlay; nothing while it is not joined.
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
    /// The state of the fast path for people: "on", or "off" and the reason; empty before the first full sync.
    pub fast_path: String,
    /// The same for programs.
    #[serde(default)]
    pub fast_path_state: Documented<FastPathState>,
    /// The NetworkPolicies; nothing where they are switched off.
    #[serde(default)]
    pub network_policy: Option<NetworkPolicy>,
    /// The path of the conflist.
    pub conflist: String,
    /// The directory that the plugin is kept in; nothing where podwired does not install it.
    #[serde(default)]
    pub plugin_directory: Option<PathBuf>,
    /// Where the membership comes from.
    pub membership: Membership,
    /// Whether the kernel and the conflist are as the cluster says.
    pub converged: bool,
    /// What is wrong, for people: the texts of `problems`.
    pub wrong: Vec<String>,
    /// What is wrong, for programs; nothing where all is OK.
    #[serde(default)]
    pub problems: Vec<ProblemStatus>,
    /// The daemon's work.
    pub daemon: Daemon,
    /// The other nodes, by name.
    pub peers: Vec<PeerStatus>,
    /// Rejected entries of the membership.
    pub refused: Vec<RejectedEntry>,
    /// The addresses of this node's pods.
    pub ranges: Vec<Range>,
    /// Packets that each guard has dropped; nothing where they are not known.
    pub guards: BTreeMap<String, u64>,
    /// How long the ADDs of this boot took; nothing where there were none.
    pub adds: Option<Adds>,
    /// The container runtime that is asked which pods are alive.
    #[serde(default)]
    pub runtime: Runtime,
}

/// The NetworkPolicies of the cluster on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicy {
    /// Whether they are in force as the API has them.
    pub in_force: bool,
    /// How many there are.
    pub policies: usize,
    /// How many ClusterNetworkPolicies there are.
    #[serde(default)]
    pub cluster_policies: usize,
    /// How many pods of this node they isolate.
    pub isolated_pods: usize,
    /// Packets that pods of this node have sent and policies have refused; nothing where that is not known.
    pub refused_from_pods: Option<u64>,
    /// Packets to pods of this node that policies have refused.
    pub refused_to_pods: Option<u64>,
    /// The pods that packets were refused of, those with the most first, since each became isolated.
    #[serde(default)]
    pub refused_pods: Vec<RefusedPod>,
    /// The same of packets that passed, and that policies would have refused which are not enforced.
    #[serde(default)]
    pub audited_pods: Vec<RefusedPod>,
}

/// Packets of one pod that policies have refused, or would have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPod {
    /// Its namespace; nothing where nobody has said whose the address is.
    pub namespace: Option<String>,
    /// Its name.
    pub pod: Option<String>,
    /// The addresses that were judged.
    pub addresses: Vec<IpAddr>,
    /// Packets that it has sent.
    pub from_pod: u64,
    /// Packets that were sent to it.
    pub to_pod: u64,
}

/// Where the membership comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Where it is read, for people.
    pub source: String,
    /// The membership file; nothing where it comes from the Kubernetes API.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Whether it can be read there at present. The last one that could be read counts until it can.
    pub connected: bool,
    /// Whether it is the checkpoint that was on disk before the start.
    pub stored: bool,
    /// Seconds since it was last found changed.
    pub age_seconds: u64,
    /// The accepted nodes, this one included.
    pub nodes: usize,
}

/// The daemon's work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its uptime, in seconds.
    pub age_seconds: u64,
    /// Seconds since the last reconcile ended.
    pub last_pass_age_seconds: Option<f64>,
    /// How long the last reconcile took.
    pub last_pass_seconds: f64,
    /// Reconciles since the start.
    pub passes: u64,
    /// Those of them that were incremental syncs.
    #[serde(default)]
    pub short_passes: u64,
    /// Changes made since the start, by kind.
    pub changes: BTreeMap<String, u64>,
    /// Those of them that were repairs.
    pub repairs: BTreeMap<String, u64>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// How each of these prefixes is reached, probes included.
    #[serde(default)]
    pub routes: Vec<PeerRoute>,
    /// Whether it answers.
    pub state: Documented<PeerState>,
    /// What the probes of each of its overlay addresses have found.
    pub probes: Vec<Probe>,
    /// The largest packet that came through to its node, in bytes, where the path has been measured.
    pub path_mtu: Option<u32>,
}

/// How a prefix of a peer's pods is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRoute {
    /// The prefix.
    pub pod_cidr: IpNetwork,
    /// By what.
    pub by: Documented<Reach>,
}

/// What packets to a peer's pods, and its probes, take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// A plain route through its address.
    Plain,
    /// The overlay.
    Overlay,
    /// Nothing: there is no overlay, and no plain route either.
    None,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Overlay => "overlay",
            Self::None => "none",
        })
    }
}

/// Whether a peer's overlay addresses answer, by whatever route leads to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// It has not been probed yet, or is not probed.
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

/// What the probes of an overlay address have found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The address.
    pub address: IpAddr,
    /// The round trip, smoothed.
    pub round_trip_microseconds: Option<u32>,
    /// How many of the last 16 probes were lost.
    pub loss_percent: u32,
}

/// An entry of the membership that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEntry {
    /// The node; empty for the cluster itself.
    pub node: String,
    /// Why.
    pub why: String,
    /// The kind of problem that it is.
    #[serde(default = "entry_rejected")]
    pub kind: Documented<ProblemKind>,
}

/// What an older podwired does not say.
fn entry_rejected() -> Documented<ProblemKind> {
    ProblemKind::EntryRejected.into()
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemStatus {
    /// What kind of problem it is.
    pub kind: Documented<ProblemKind>,
    /// What it is about, where that is one thing.
    pub subject: Option<String>,
    /// What is wrong and what can be done, one sentence.
    pub text: String,
}

impl From<Problem> for ProblemStatus {
    fn from(problem: Problem) -> Self {
        let Problem { kind, subject, text } = problem;
        Self { kind: kind.into(), subject, text }
    }
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

/// The container runtime that is asked which pods are alive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// The socket of its CRI; nothing where no runtime with one is known, or none is asked.
    pub socket: Option<PathBuf>,
    /// Why this one is asked, for people.
    pub why: String,
    /// The runtime's name, as it says it.
    pub name: String,
    /// How many sandboxes it lists; nothing while it does not answer.
    pub sandboxes: Option<usize>,
    /// Why it does not answer; nothing where it does.
    pub failure: Option<String>,
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

impl Status {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.converged && self.wrong.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_document_of_a_newer_podwired_is_read_and_its_kinds_stay_as_they_are() {
        let peer = PeerStatus {
            name: "node-2".into(),
            address: "192.168.50.2".parse().unwrap(),
            pod_cidrs: Vec::new(),
            routes: vec![PeerRoute { pod_cidr: "10.244.2.0/24".parse().unwrap(), by: Reach::Plain.into() }],
            state: PeerState::Answers.into(),
            probes: Vec::new(),
            path_mtu: None,
        };
        let rejected = RejectedEntry { node: String::new(), why: String::new(), kind: entry_rejected() };
        let problem = Problem::general(ProblemKind::PeerSilent, "a sentence").into();
        let known = Status { peers: vec![peer], refused: vec![rejected], problems: vec![problem], ..Status::default() };
        let mut document = serde_json::to_value(&known).unwrap();
        assert_eq!(serde_json::from_value::<Status>(document.clone()).unwrap(), known);
        for (place, invented) in [
            ("/problems/0/kind", json!("tunnel-frozen")),
            ("/refused/0/kind", json!("entry-postponed")),
            ("/peers/0/state", json!("dozing")),
            ("/peers/0/routes/0/by", json!("tunnel")),
            ("/fast_path_state", json!({"state": "partly", "devices": ["eth0"]})),
        ] {
            *document.pointer_mut(place).unwrap() = invented.clone();
            let read: Status = serde_json::from_value(document.clone()).unwrap();
            let written = serde_json::to_value(&read).unwrap();
            assert_eq!(written.pointer(place), Some(&invented));
        }
        // What is new beside them does not matter.
        document["invented"] = Value::from(1);
        let read: Status = serde_json::from_value(document).unwrap();
        assert!(read.problems[0].kind != ProblemKind::PeerSilent && read.problems[0].text == "a sentence");
    }
}
