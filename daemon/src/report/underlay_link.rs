//! The link of the underlay: which addresses are on it, by the routes of the node's interface. Values only.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::route::{Route, Target};

/// The destinations of an interface's routes, and whether they are on-link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnderlayLink {
    destinations: Vec<(IpNetwork, bool)>,
}

impl UnderlayLink {
    /// That of an interface with these routes, in any order.
    pub fn new(routes: &[Route]) -> Self {
        let direct = |route: &Route| (route.destination, matches!(route.target, Target::Device(_)));
        Self { destinations: routes.iter().map(direct).collect() }
    }

    /// Whether an address is on it: the most specific of the interface's routes to it has no gateway.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.subnet(address).is_some()
    }

    /// The subnet on it that has an address: the destination of that route.
    pub fn subnet(&self, address: IpAddr) -> Option<IpNetwork> {
        let covering = self.destinations.iter().filter(|(destination, _)| destination.contains(address));
        let (subnet, direct) = covering.max_by_key(|(destination, _)| destination.prefix())?;
        direct.then_some(*subnet)
    }
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
        let link = UnderlayLink::new(&[
            route("0.0.0.0/0", gateway),
            route("192.168.50.0/24", Target::Device(2)),
            route("192.168.50.128/25", gateway),
            route("192.168.50.200/32", Target::Device(2)),
            route("fd00:50::/64", Target::Device(2)),
        ]);
        let neighbours = ["192.168.50.2", "192.168.50.200", "fd00:50::2"];
        assert!(neighbours.iter().all(|address| link.holds(address.parse().unwrap())));
        let others = ["192.168.50.129", "192.168.51.2", "10.0.0.1", "fd00:51::2"];
        assert!(!others.iter().any(|address| link.holds(address.parse().unwrap())));
    }
}
