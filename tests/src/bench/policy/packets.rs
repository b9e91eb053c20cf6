//! What policies cost packets that they allow, on one node: no policy, one that isolates the pod, and many of which twenty do; with the
//! fast path and without. They take turns.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::cluster::{self, Size};
use super::stage::Stage;
use crate::statistics::median;
use crate::tcp;

/// The pod that the most policies isolate, one that they let in, also where there are a hundred of them only, and the port by which they do.
const HUB: u32 = 0;
const CLIENT: u32 = 90;
const PORT: u16 = 8080;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often each has its turn.
    pub(crate) rounds: usize,
    /// How long each of the three takes each time.
    pub(crate) slice: Duration,
}

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InForce {
    /// No policy.
    None,
    /// One, which isolates the pod and lets the other in.
    One,
    /// All of the cluster.
    Many,
}

impl InForce {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::One, Self::Many];
}

/// What came of one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Packets {
    /// What is in force.
    pub(crate) in_force: InForce,
    /// Whether established connections take the fast path.
    pub(crate) fast_path: bool,
    /// The medians of the rounds: a byte to the other pod and back.
    pub(crate) round_trip_us: f64,
    /// What arrives, in Gbit/s.
    pub(crate) gigabits: f64,
    /// Connections made in a second, one after the other.
    pub(crate) connections: f64,
    /// Each round of the three, as in [`Figure`].
    pub(crate) rounds: [Vec<f64>; 3],
}

/// What is measured in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    RoundTrip,
    Throughput,
    Connections,
}

impl Figure {
    const ALL: [Self; 3] = [Self::RoundTrip, Self::Throughput, Self::Connections];
}

impl Packets {
    /// A figure in terms of another's: the median of what it is in each round, whose turns are beside one another.
    pub(crate) fn ratio(&self, figure: Figure, other: &Self) -> Option<f64> {
        let [own, others] = [self, other].map(|packets| &packets.rounds[figure as usize]);
        median(&own.iter().zip(others).map(|(own, other)| own / other).collect::<Vec<_>>())
    }
}

/// Lets them take turns.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(size: Size, effort: Effort, podwired: &Path, shared: &Path) -> Result<Vec<Packets>, String> {
    let mut stages = Vec::new();
    for fast_path in [false, true] {
        for in_force in InForce::ALL {
            let policies = if in_force == InForce::Many { size.policies } else { 0 };
            let directory = shared.join(format!("packets-{in_force:?}-{fast_path}"));
            let stage = Stage::with(Size { policies, ..size }, fast_path, podwired, &directory)?;
            stage.put_in_force()?;
            if in_force == InForce::One {
                stage.api.tell("networkpolicies", "ADDED", &letting_in())?;
                stage.daemon.wait_for("ingress-subjects4 +")?;
            }
            stages.push((in_force, fast_path, stage));
        }
    }
    let mut rounds = vec![[const { Vec::new() }; 3]; stages.len()];
    for (.., stage) in &stages {
        // What is learnt and allocated once is not measured.
        once(stage, Figure::RoundTrip, effort.slice / 4)?;
    }
    for round in 0..effort.rounds {
        for figure in Figure::ALL {
            for place in crate::race::turn(round, stages.len()) {
                rounds[place][figure as usize].push(once(&stages[place].2, figure, effort.slice)?);
            }
        }
    }
    let packets = stages.iter().zip(rounds).map(|((in_force, fast_path, _), rounds)| {
        let [round_trip_us, gigabits, connections] = rounds.each_ref().map(|of| median(of).unwrap_or_default());
        Packets { in_force: *in_force, fast_path: *fast_path, round_trip_us, gigabits, connections, rounds }
    });
    Ok(packets.collect())
}

/// One turn.
fn once(stage: &Stage, figure: Figure, slice: Duration) -> Result<f64, String> {
    let [near, far] = [CLIENT, HUB].map(|number| &stage.pods[number as usize]);
    let address = far.addresses[0].parse().map_err(|error| format!("{:?}: {error}", far.addresses))?;
    let address = SocketAddr::new(address, PORT);
    let connect = || {
        let ends = tcp::connect(&near.host, &far.host, address);
        ends.map_err(|error| format!("connect {} to {address}: {error}", near.host.name))
    };
    match figure {
        Figure::RoundTrip => tcp::round_trip(connect()?, slice),
        Figure::Throughput => tcp::throughput(connect()?, slice),
        Figure::Connections => tcp::connections(&near.host, &far.host, address, slice),
    }
}

fn letting_in() -> Value {
    let (namespace, _) = cluster::own(HUB);
    let metadata = json!({"name": "let-in", "namespace": namespace, "uid": "let-in", "resourceVersion": "1"});
    let from = json!([{"podSelector": {"matchLabels": {"app": format!("app-{}", CLIENT % cluster::APPS)}}}]);
    let ingress = json!([{"from": from, "ports": [{"protocol": "TCP", "port": PORT}]}]);
    let selector = json!({"matchLabels": {"group": "hub"}});
    json!({"metadata": metadata, "spec": {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress}})
}
