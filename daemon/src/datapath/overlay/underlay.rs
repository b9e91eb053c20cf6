//! The underlay of this node: the interface to the peers, and which peers are on its link. What follows from it is
//! decided in `desired`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::defaults;
use podwire_kernel::address::{self, Address};
use podwire_kernel::link::Link;
use podwire_kernel::route::{self, Route};
use podwire_kernel::{Result, Socket, family, link};

use crate::cluster::settings::Overlay;
use crate::cluster::view::View;
use crate::report::problem::{Problem, ProblemKind};
use crate::report::underlay_link::UnderlayLink;

/// The interface to the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its index.
    pub device: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes; Ethernet's for the loopback device, which stands for all others.
    pub mtu: u32,
    /// Which addresses are on its link.
    pub link: UnderlayLink,
    /// The node's other devices that have addresses of the underlay's family, and the subnets of these.
    others: Vec<(String, Vec<IpNetwork>)>,
}

impl Underlay {
    /// An interface with these routes, in any order.
    pub fn new(device: u32, name: &str, mtu: u32, routes: &[Route]) -> Self {
        Self { device, name: name.into(), mtu, link: UnderlayLink::new(routes), others: Vec::new() }
    }

    /// The same beside other devices of the node.
    pub fn beside(self, others: Vec<(String, Vec<IpNetwork>)>) -> Self {
        Self { others, ..self }
    }

    /// Whether an address is on the link.
    pub fn on_link(&self, address: IpAddr) -> bool {
        self.link.holds(address)
    }

    /// The other devices that are on the same link: those with an address in the very subnets that the peers on it are in. A
    /// device with a larger subnet may be a tunnel to somewhere else, one without all of these subnets is not on the link of
    /// every such peer: its packets stay dropped.
    pub fn others_on_link(&self, view: &View) -> Vec<&str> {
        if self.others.is_empty() {
            return Vec::new();
        }
        let peers: BTreeSet<_> = view.peers.values().filter_map(|peer| self.link.subnet(peer.address)).collect();
        let on_link = |(_, subnets): &&(String, Vec<IpNetwork>)| peers.iter().all(|subnet| subnets.contains(subnet));
        // Without a peer on the link there is nothing to take in.
        self.others.iter().filter(|_| !peers.is_empty()).filter(on_link).map(|(name, _)| name.as_str()).collect()
    }
}

/// Reads the interface that has this node's own address, or the one named `interface`. Its routes are read only where
/// they matter.
///
/// # Errors
/// The kernel refuses to tell, no interface has the node's address, or there is none of that name.
pub fn look(
    socket: &mut Socket,
    view: &View,
    interface: Option<&str>,
    overlay: Overlay,
) -> std::result::Result<Underlay, Problem> {
    let own = view.own.address;
    let addresses = address::list(socket, None)?;
    let holders = holders(socket, &addresses, own)?;
    if holders.is_empty() {
        let text = format!("this node's address {own} is on none of its interfaces: see `ip address`");
        return Err(Problem::new(ProblemKind::NodeAddressMissing, own.to_string(), text));
    }
    let link = match interface {
        None => holders.into_iter().max_by_key(|link| (link.up, !link.loopback)),
        Some(name) => link::by_name(socket, name)?,
    };
    let Some(link) = link else {
        let name = interface.unwrap_or_default();
        let text = format!("there is no interface {name} (--interface): see `ip link`");
        return Err(Problem::new(ProblemKind::InterfaceMissing, name, text));
    };
    if link.loopback {
        return Ok(Underlay::new(link.index, &link.name, defaults::MTU, &[]));
    }
    if overlay == Overlay::Always {
        return Ok(Underlay::new(link.index, &link.name, link.mtu, &[]));
    }
    let routes = route::list_of_device(socket, link.index, own, defaults::OVERLAY_PROTOCOL)?;
    let others = others(socket, &addresses, own, link.index)?;
    Ok(Underlay::new(link.index, &link.name, link.mtu, &routes).beside(others))
}

/// The interfaces that have an address: one, on a properly configured node.
fn holders(socket: &mut Socket, addresses: &[Address], own: IpAddr) -> Result<Vec<Link>> {
    let devices = addresses.iter().filter(|found| found.address.ip() == own).map(|found| found.device);
    let links = devices.map(|device| link::by_index(socket, device)).collect::<Result<Vec<_>>>()?;
    Ok(links.into_iter().flatten().collect())
}

/// The other devices with subnets of the own address's family, by name. A pod's device has none, nor has the overlay's.
fn others(
    socket: &mut Socket,
    addresses: &[Address],
    own: IpAddr,
    underlay: u32,
) -> Result<Vec<(String, Vec<IpNetwork>)>> {
    let mut subnets: BTreeMap<u32, Vec<IpNetwork>> = BTreeMap::new();
    for Address { device, address } in addresses {
        let is_link_local = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        let is_subnet = family::host(address.ip()).prefix() > address.prefix() && !is_link_local;
        if *device != underlay && address.is_ipv4() == own.is_ipv4() && is_subnet {
            subnets.entry(*device).or_default().push(family::masked(*address));
        }
    }
    let mut others = Vec::new();
    for (device, subnets) in subnets {
        // What has gone meanwhile sends nothing, and what has no link-layer address (a tunnel, loopback) is on no link.
        let on_a_link = |link: &Link| !link.loopback && link.mac.is_some();
        if let Some(link) = link::by_index(socket, device)?.filter(on_a_link) {
            others.push((link.name, subnets));
        }
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::Membership;
    use podwire_kernel::route::Target;

    #[test]
    fn a_device_is_on_the_link_when_it_has_the_subnets_of_all_peers_there() {
        let membership = Membership::parse(include_str!("../../../../conf/nodes.toml")).unwrap();
        let mut view = View::new(&membership, "node-1").unwrap();
        let route = |destination: &str| Route {
            destination: destination.parse().unwrap(),
            metric: 0,
            target: Target::Device(2),
            protocol: 2,
        };
        let other = |name: &str, subnets: &[&str]| {
            (name.to_owned(), subnets.iter().map(|subnet| subnet.parse().unwrap()).collect())
        };
        let routes = [route("192.168.50.0/24"), route("172.16.0.0/24")];
        let underlay = Underlay::new(2, "eth0", 1500, &routes).beside(vec![
            other("eth1", &["192.168.50.0/24"]),
            other("eth2", &["172.16.0.0/24", "192.168.50.0/24"]),
            other("vpn0", &["192.168.0.0/16"]),
            other("br0", &["192.168.122.0/24"]),
        ]);
        assert_eq!(underlay.others_on_link(&view), ["eth1", "eth2"]);
        // On the same link by another subnet, which the first device has not.
        view.peers.get_mut("node-3").unwrap().address = "172.16.0.3".parse().unwrap();
        assert_eq!(underlay.others_on_link(&view), ["eth2"]);
        // A peer on another link is no matter: its packets come by the overlay.
        view.peers.get_mut("node-3").unwrap().address = "172.17.0.3".parse().unwrap();
        assert_eq!(underlay.others_on_link(&view), ["eth1", "eth2"]);
        view.peers.clear();
        assert!(underlay.others_on_link(&view).is_empty());
    }
}
