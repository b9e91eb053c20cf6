//! The lab's plan of numbers: node N is 192.168.50.N and fd00:192:168:50::N on the underlay, and has the pod CIDRs
//! 10.244.N.0/24 and fd00:10:244:N::/64.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// What is in the membership file.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The nodes: name, address, pod CIDRs.
    pub nodes: Vec<(String, IpAddr, Vec<IpNetwork>)>,
    /// Other addresses of some of them, by name.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl Membership {
    /// The usual entries of some nodes.
    pub fn of(numbers: impl IntoIterator<Item = u16>) -> Self {
        let entry = |number| (name(number), underlay(number)[0].ip(), pod_cidrs(number));
        Self { nodes: numbers.into_iter().map(entry).collect(), addresses: BTreeMap::new() }
    }

    /// Sets the other addresses of a node.
    pub fn addresses(&mut self, number: u16, addresses: &[IpAddr]) {
        self.addresses.insert(name(number), addresses.to_vec());
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = String::from("cluster_cidrs = [\"10.244.0.0/16\", \"fd00:10:244::/48\"]\n");
        for (name, address, cidrs) in &self.nodes {
            let cidrs: Vec<_> = cidrs.iter().map(|cidr| format!("\"{cidr}\"")).collect();
            let cidrs = cidrs.join(", ");
            // Writing to a string does not fail.
            let _ = write!(text, "\n[[node]]\nname = \"{name}\"\naddress = \"{address}\"\npod_cidrs = [{cidrs}]\n");
            if let Some(others) = self.addresses.get(name) {
                let others: Vec<_> = others.iter().map(|other| format!("\"{other}\"")).collect();
                let _ = writeln!(text, "addresses = [{}]", others.join(", "));
            }
        }
        text
    }
}

/// A node's name.
pub fn name(number: u16) -> String {
    format!("node-{number}")
}

/// A host's addresses on the underlay, IPv4 first.
pub fn underlay(number: u16) -> Vec<IpNetwork> {
    let [_, last] = number.to_be_bytes();
    let four = IpAddr::V4(Ipv4Addr::new(192, 168, 50, last));
    let six = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x192, 0x168, 0x50, 0, 0, 0, decimal(number)));
    [(four, 24), (six, 64)].into_iter().filter_map(|(address, prefix)| IpNetwork::new(address, prefix).ok()).collect()
}

/// A host's address on the underlay of the family of `like`.
pub fn underlay_address(number: u16, like: IpAddr) -> IpAddr {
    underlay(number)[usize::from(like.is_ipv6())].ip()
}

/// A node's pod CIDRs, IPv4 first.
pub fn pod_cidrs(number: u16) -> Vec<IpNetwork> {
    let [_, third] = number.to_be_bytes();
    let four = IpAddr::V4(Ipv4Addr::new(10, 244, third, 0));
    let six = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, decimal(number), 0, 0, 0, 0));
    [(four, 24), (six, 64)].into_iter().filter_map(|(address, prefix)| IpNetwork::new(address, prefix).ok()).collect()
}

/// The number whose hexadecimal digits are these decimal ones, so that 254 reads the same in both families.
fn decimal(number: u16) -> u16 {
    u16::from_str_radix(&number.to_string(), 16).unwrap_or(number)
}
