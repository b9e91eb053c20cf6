//! TCP between pods on two nodes: one byte to and fro, and as much as goes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::layout::{Layout, Pair};
use crate::statistics::median;
use crate::tcp::{self, Ends};

/// Peers of each node: the one that is there, and those that could be.
const PEERS: u32 = 100;

/// What is measured of a layout.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Traffic {
    /// Which.
    pub(crate) layout: Layout,
    /// A byte to the other pod and back, in microseconds: the median of the rounds.
    pub(crate) round_trip_us: f64,
    /// The median round trip of each round.
    pub(crate) round_trips_us: Vec<f64>,
    /// What arrives, in Gbit/s: the median of the rounds.
    pub(crate) gigabits: f64,
    /// Each round.
    pub(crate) all_gigabits: Vec<f64>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// How often each layout has its turn.
    pub(crate) rounds: usize,
    /// How long each of the two takes each time.
    pub(crate) slice: Duration,
}

/// Lets the layouts take turns.
///
/// # Errors
/// What did not work.
pub(crate) fn measure(effort: Effort, podwired: &Path, shared: &Path) -> Result<Vec<Traffic>, String> {
    let mut configurations = None;
    let mut pairs = Vec::new();
    for layout in Layout::ALL {
        pairs.push(Pair::new(layout, PEERS, podwired, shared, &mut configurations)?);
    }
    let mut rounds = vec![(Vec::new(), Vec::new()); pairs.len()];
    for pair in &pairs {
        // What is learnt and allocated once is not measured.
        round_trip(pair, effort.slice / 4)?;
    }
    for round in 0..effort.rounds {
        for place in crate::race::turn(round, pairs.len()) {
            rounds[place].0.push(round_trip(&pairs[place], effort.slice)?);
        }
        for place in crate::race::turn(round, pairs.len()) {
            rounds[place].1.push(throughput(&pairs[place], effort.slice)?);
        }
    }
    let traffic = pairs.iter().zip(rounds).map(|(pair, (round_trips_us, all_gigabits))| Traffic {
        layout: pair.layout,
        round_trip_us: median(&round_trips_us).unwrap_or_default(),
        round_trips_us,
        gigabits: median(&all_gigabits).unwrap_or_default(),
        all_gigabits,
    });
    Ok(traffic.collect())
}

/// A connection from the first pod to the second: the listener's end, and the other's.
fn connect(pair: &Pair) -> Result<Ends, String> {
    let ([near, far], [_, address]) = (&pair.pods, pair.addresses);
    tcp::connect(near, far, SocketAddr::new(address, 0))
        .map_err(|error| format!("connect pods over {}: {error}", pair.layout.name()))
}

fn round_trip(pair: &Pair, slice: Duration) -> Result<f64, String> {
    tcp::round_trip(connect(pair)?, slice).map_err(|error| format!("over {}: {error}", pair.layout.name()))
}

fn throughput(pair: &Pair, slice: Duration) -> Result<f64, String> {
    tcp::throughput(connect(pair)?, slice).map_err(|error| format!("over {}: {error}", pair.layout.name()))
}
