//! The underlay of this node: the interface to the peers, and which peers are on its link. What follows from it is
//! decided in `desired`.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::defaults;
use podwire_kernel::link::Link;
use podwire_kernel::route::{self, Route, Target};
use podwire_kernel::{Result, Socket, address, link};

use crate::cluster::settings::Overlay;
use crate::cluster::view::View;
use crate::report::problem::{Problem, ProblemKind};

/// The interface to the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its index.
    pub device: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes; Ethernet's for the loopback device, which stands for all others.
    pub mtu: u32,
    /// The destinations of its routes, and whether they are on-link.
    destinations: Vec<(IpNetwork, bool)>,
}

impl Underlay {
    /// An interface with these routes, in any order.
    pub fn new(device: u32, name: &str, mtu: u32, routes: &[Route]) -> Self {
        let direct = |route: &Route| (route.destination, matches!(route.target, Target::Device(_)));
        Self { device, name: name.into(), mtu, destinations: routes.iter().map(direct).collect() }
    }

    /// Whether an address is on the link: the most specific of the interface's routes to it has no gateway.
    pub fn on_link(&self, address: IpAddr) -> bool {
        let covering = self.destinations.iter().filter(|(destination, _)| destination.contains(address));
        covering.max_by_key(|(destination, _)| destination.prefix()).is_some_and(|(_, direct)| *direct)
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
    let holders = holders(socket, own)?;
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
    let routes = match overlay {
        Overlay::Always => Ok(Vec::new()),
        Overlay::Auto | Overlay::Never => route::list_of_device(socket, link.index, own, defaults::OVERLAY_PROTOCOL),
    };
    Ok(Underlay::new(link.index, &link.name, link.mtu, &routes?))
}

/// The interfaces that have an address: one, on a properly configured node.
fn holders(socket: &mut Socket, own: IpAddr) -> Result<Vec<Link>> {
    let addresses = address::list(socket, None)?;
    let devices = addresses.iter().filter(|found| found.address.ip() == own).map(|found| found.device);
    let links = devices.map(|device| link::by_index(socket, device)).collect::<Result<Vec<_>>>()?;
    Ok(links.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, target: Target) -> Route {
        Route { destination: destination.parse().unwrap(), metric: 0, target, protocol: 2 }
    }

    #[test]
    fn an_address_is_on_link_when_its_most_specific_route_has_no_gateway() {
        let gateway = Target::Gateway { gateway: "192.168.50.254".parse().unwrap(), device: 2 };
        let routes = [
            route("0.0.0.0/0", gateway),
            route("192.168.50.0/24", Target::Device(2)),
            route("192.168.50.128/25", gateway),
            route("192.168.50.200/32", Target::Device(2)),
            route("fd00:50::/64", Target::Device(2)),
        ];
        let underlay = Underlay::new(2, "eth0", 1500, &routes);
        let neighbours = ["192.168.50.2", "192.168.50.200", "fd00:50::2"];
        assert!(neighbours.iter().all(|address| underlay.on_link(address.parse().unwrap())));
        let others = ["192.168.50.129", "192.168.51.2", "10.0.0.1", "fd00:51::2"];
        assert!(!others.iter().any(|address| underlay.on_link(address.parse().unwrap())));
    }
}
