//! The overlay's objects in the kernel, each type keyed by what identifies an entry in the kernel. Desired and observed
//! state have this one type, so that they can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::Mac;
use podwire_kernel::address::Address;
use podwire_kernel::link::Vxlan;
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::nexthop::Nexthop;
use podwire_kernel::route::Route;

/// The VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its link-layer address.
    pub mac: Mac,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// What is fixed at its creation.
    pub vxlan: Vxlan,
}

/// What belongs to the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The VNIs that the device accepts.
    pub vnis: BTreeSet<u32>,
    /// The addresses on the device.
    pub addresses: BTreeMap<IpNetwork, Address>,
    /// The permanent neighbours on the device.
    pub neighbours: BTreeMap<IpAddr, Neighbour>,
    /// The nexthop objects with our protocol number, by id.
    pub nexthops: BTreeMap<u32, Nexthop>,
    /// The routes with our protocol number, by destination and metric.
    pub routes: BTreeMap<(IpNetwork, u32), Route>,
}

impl State {
    /// Adds an address.
    pub fn with_address(&mut self, address: Address) {
        self.addresses.insert(address.address, address);
    }

    /// Adds a neighbour.
    pub fn with_neighbour(&mut self, neighbour: Neighbour) {
        self.neighbours.insert(neighbour.address, neighbour);
    }

    /// Adds a nexthop.
    pub fn with_nexthop(&mut self, nexthop: Nexthop) {
        self.nexthops.insert(nexthop.id, nexthop);
    }

    /// Adds a route; the first one for a destination counts.
    pub fn with_route(&mut self, route: Route) {
        self.routes.entry((route.destination, route.metric)).or_insert(route);
    }
}

/// Ids of nexthop objects that are in use: those of our own, by gateway, and all others.
#[derive(Debug, Clone, Default)]
pub struct NexthopIds {
    /// The id that the kernel has for a gateway of ours.
    pub ours: BTreeMap<IpAddr, u32>,
    /// Every id that is taken, ours included.
    pub taken: BTreeSet<u32>,
}

impl NexthopIds {
    /// Replaces the ids of one state's nexthops by those of another, once the difference has been applied.
    pub fn replace(&mut self, before: &State, after: &State) {
        for nexthop in before.nexthops.values() {
            self.ours.remove(&nexthop.gateway);
            self.taken.remove(&nexthop.id);
        }
        for nexthop in after.nexthops.values() {
            self.ours.insert(nexthop.gateway, nexthop.id);
            self.taken.insert(nexthop.id);
        }
    }
}
