//! The host side of an attachment, derived from its record: the veth end, its routes, neighbours and settings. ADD creates
//! it, the daemon repairs it. Pure; firewall rules are in `pod_rules`.

use std::net::IpAddr;

use podwire_conf::{Port, defaults};
use podwire_kernel::address::Address;
use podwire_kernel::link::Ipv4Setting;
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::proxy_neighbour::ProxyNeighbour;
use podwire_kernel::route::{Route, Target};
use podwire_kernel::sysctl::Sysctl;
use podwire_kernel::{Mac, family};

use crate::ledger::Record;
use crate::names;

/// Sysctls that make a veth end ignore router advertisements and redirects, whatever addresses it has (CVE-2020-10749).
/// They are set before the end comes up, if the kernel has them.
pub fn hardening(device: &str) -> [Sysctl; 2] {
    [("accept_ra", "0"), ("accept_redirects", "0")].map(|(name, value)| Sysctl::of_device("ipv6", device, name, value))
}

/// Whether any of these ports is reached at the node's 127.0.0.0/8.
pub fn on_loopback(ports: &[Port], addresses: &[IpAddr]) -> bool {
    ports.iter().any(|port| addresses.iter().any(|address| port.is_on_loopback(*address)))
}

/// Whether the device has the filter that drops what a pod sends to 127.0.0.0/8 ([`loopback_filter`]). Without it the device
/// must not accept 127.0.0.1 (`route_localnet`): the rules that keep a pod away from the node's own services can be
/// flushed, this filter cannot.
///
/// [`loopback_filter`]: podwire_kernel::tc::loopback_filter
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// It is there.
    Filtered,
    /// It is not, or not yet.
    Open,
}

/// The host side of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSide {
    /// The name of the veth end on the host.
    pub name: String,
    /// Its link-layer address.
    pub mac: Mac,
    /// The link-layer address of the end in the pod; none where the record is of an older version.
    pub pod_mac: Option<Mac>,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether host ports at the node's 127.0.0.0/8 lead to the pod.
    pub loopback_ports: bool,
}

impl HostSide {
    /// The host side of a record.
    pub fn of(record: &Record) -> Self {
        Self {
            name: names::host_device(&record.attachment),
            mac: names::host_mac(&record.attachment),
            pod_mac: record.mac,
            addresses: record.addresses(),
            loopback_ports: on_loopback(&record.ports, &record.addresses()),
        }
    }

    /// The routes to the pod, through the device with this index.
    pub fn routes(&self, device: u32) -> Vec<Route> {
        let route = |address: &IpAddr| {
            let (destination, target) = (family::host(*address), Target::Device(device));
            Route { destination, metric: 0, target, protocol: defaults::POD_PROTOCOL }
        };
        self.addresses.iter().map(route).collect()
    }

    /// The permanent neighbours on the device with this index.
    pub fn neighbours(&self, device: u32) -> Vec<Neighbour> {
        let neighbour =
            |mac: Mac| self.addresses.iter().map(move |address| Neighbour { device, address: *address, mac });
        self.pod_mac.into_iter().flat_map(neighbour).collect()
    }

    /// The pod's IPv4 gateway, which the device with this index answers for: a pod knows its link-layer address, but a
    /// machine in a pod (KubeVirt, Kata) asks. Nobody has the address, and the device answers for no others.
    pub fn gateway4(&self, device: u32) -> Option<ProxyNeighbour> {
        let needed = self.addresses.iter().any(IpAddr::is_ipv4);
        needed.then_some(ProxyNeighbour { device, address: defaults::GATEWAY4 })
    }

    /// The pod's IPv6 gateway, for the same reason an address of the device with this index: without one of its own it would
    /// not answer who asks from a link-local address. The daemon's rules let nothing but neighbour discovery to it.
    pub fn gateway6(&self, device: u32) -> Option<Address> {
        let needed = self.addresses.iter().any(IpAddr::is_ipv6);
        needed.then(|| Address { device, address: family::host(defaults::GATEWAY6.into()) })
    }

    /// What the answers for [`HostSide::gateway4`] need beside forwarding: the kernel would give them up to 0.8 s late.
    pub fn answering(&self) -> Option<Sysctl> {
        let needed = self.addresses.iter().any(IpAddr::is_ipv4);
        needed.then(|| Sysctl { path: format!("net/ipv4/neigh/{}/proxy_delay", self.name), value: "0" })
    }

    /// IPv4 settings of the device: it drops packets from source addresses that are not routed to it, and follows no route
    /// that a packet names, which could lead to 127.0.0.1 behind all filters. Whether it accepts 127.0.0.1 where none of our
    /// host ports leads to the pod is left to whoever has set it: a chained portmap.
    pub fn ipv4_settings(&self, loopback: Loopback) -> Vec<(Ipv4Setting, u32)> {
        let mut settings = vec![
            (Ipv4Setting::ReversePathFilter, 1),
            (Ipv4Setting::Forwarding, 1),
            (Ipv4Setting::AcceptRedirects, 0),
            (Ipv4Setting::AcceptSourceRoute, 0),
        ];
        if self.loopback_ports {
            settings.push((Ipv4Setting::RouteLocalnet, u32::from(loopback == Loopback::Filtered)));
        }
        settings
    }

    /// [`hardening`] of the host end.
    pub fn hardening(&self) -> Vec<Sysctl> {
        hardening(&self.name).into()
    }

    /// Enables IPv6 on the device, if the pod has an IPv6 address: a host may disable it by default.
    pub fn enable_ipv6(&self) -> Option<Sysctl> {
        let needed = self.addresses.iter().any(IpAddr::is_ipv6);
        needed.then(|| Sysctl::of_device("ipv6", &self.name, "disable_ipv6", "0"))
    }
}
