//! The plan of numbers, for more nodes than the lab's has room for: node N has an address out of 172.16.0.0/12 on the
//! underlay, and the N-th /24 of 10.0.0.0/8 and /64 of fd00:10::/48 for its pods.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnetwork::IpNetwork;

/// The name of the membership file in the shared directory.
pub(crate) const FILE: &str = "nodes.toml";

/// What the membership says of a node: its place in the plan, and the two things about it that may be another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) number: u32,
    /// The place that its address on the underlay is of.
    pub(crate) address: u32,
    /// The place that its pods' addresses are of.
    pub(crate) pods: u32,
}

impl Entry {
    /// The usual one.
    pub(crate) fn of(number: u32) -> Self {
        Self { number, address: number, pods: number }
    }
}

/// A node's name.
pub(crate) fn name(number: u32) -> String {
    format!("node-{number}")
}

/// A node's address on the underlay.
pub(crate) fn underlay(number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 0)) + number).into()
}

/// The same, as it is on the node's device.
pub(crate) fn on_underlay(number: u32) -> Vec<IpNetwork> {
    IpNetwork::new(underlay(number), 12).into_iter().collect()
}

/// A node's pod CIDRs, without their lengths: IPv4 (/24), IPv6 (/64).
pub(crate) fn pods(number: u32) -> (Ipv4Addr, Ipv6Addr) {
    let four = Ipv4Addr::from((10 << 24) + (number << 8));
    let six = u128::from(Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0)) + (u128::from(number) << 64);
    (four, Ipv6Addr::from(six))
}

/// The membership file's text.
pub(crate) fn text(entries: &[Entry]) -> String {
    let mut text = String::from("cluster_cidrs = [\"10.0.0.0/8\", \"fd00:10::/48\"]\n");
    for Entry { number, address, pods: place } in entries {
        let (name, address, (four, six)) = (name(*number), underlay(*address), pods(*place));
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[[node]]\nname = \"{name}\"\naddress = \"{address}\"\npod_cidrs = [\"{four}/24\", \"{six}/64\"]\n"
        );
    }
    text
}

/// Replaces the membership file in a directory by a rename.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(directory: &Path, text: &str) -> Result<(), String> {
    let (path, beside) = (directory.join(FILE), directory.join(format!("{FILE}.new")));
    let write = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path));
    write.map_err(|error| format!("write {}: {error}", path.display()))
}
