//! A packet that begins a connection, and the directions in which policies judge it.

use std::fmt;
use std::net::IpAddr;

/// The protocols that policies know.
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// The direction of traffic, as seen from the pod that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

/// A packet: after DNAT, before SNAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Protocol and destination port; `None` for every protocol that policies do not know.
    pub port: Option<(&'static str, u16)>,
}

impl Packet {
    /// A packet to a port, such as `TCP/80`, or of no protocol that policies know (`ICMP`).
    pub fn of(source: &str, destination: &str, port: &str) -> Self {
        let known = |name: &str| PROTOCOLS.into_iter().find(|protocol| *protocol == name).unwrap();
        let port = port.split_once('/').map(|(protocol, port)| (known(protocol), port.parse().unwrap()));
        Self { source: source.parse().unwrap(), destination: destination.parse().unwrap(), port }
    }

    /// The end that a direction judges, and the other one.
    pub fn ends(&self, direction: Direction) -> (IpAddr, IpAddr) {
        match direction {
            Direction::Ingress => (self.destination, self.source),
            Direction::Egress => (self.source, self.destination),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some((protocol, port)) => write!(f, "{} -> {} {protocol}/{port}", self.source, self.destination),
            None => write!(f, "{} -> {} ICMP", self.source, self.destination),
        }
    }
}
