//! What ADD creates in the kernel for an attachment: both ends with their addresses, routes and settings. Pure: the same
//! request gives the same plan. The host side itself is `podwire_attachment::host_side`, shared with the daemon.

use std::net::IpAddr;

use podwire_attachment::host_side::{HostSide, Loopback, hardening, on_loopback};
use podwire_attachment::names::{self, alias_of, host_device, host_mac};
use podwire_conf::{Bandwidth, Route as PodRoute, defaults, shown};
use podwire_kernel::address::Address;
use podwire_kernel::link::{self, Ipv4Setting};
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::netlink::message::Message;
use podwire_kernel::proxy_neighbour::ProxyNeighbour;
use podwire_kernel::route::{Route, Target};
use podwire_kernel::rule::Rule;
use podwire_kernel::sysctl::Sysctl;
use podwire_kernel::tc::{bpf_hook, loopback_filter};
use podwire_kernel::{Mac, Request, family};

use crate::cni::Add;

/// `RTPROT_BOOT`: routes in the pod belong to the pod.
const POD_SIDE_PROTOCOL: u8 = 3;

/// An attachment to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The veth end on the host.
    pub host: Device,
    /// The veth end in the pod.
    pub pod: Device,
    /// The MTU of both, in bytes.
    pub mtu: u32,
    /// The pod's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The destinations that the pod reaches through the host.
    pub routes: Vec<PodRoute>,
    /// Whether host ports are forwarded to the pod.
    pub loopback_ports: bool,
    /// Whether shaping gives the host end an ingress hook of its own.
    pub ingress_hook: bool,
    /// The alias of the host end, for people.
    pub alias: String,
    /// Whether the host end gets hooks for the node's fast path.
    pub fast_path: bool,
}

/// One end of the veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its link-layer address.
    pub mac: Mac,
}

/// The link-layer address of the pod end: the requested one, or the one derived from the attachment.
pub fn pod_mac(request: &Add) -> Mac {
    request.requested.mac.unwrap_or_else(|| names::pod_mac(&request.attachment))
}

impl Plan {
    /// The plan for a request whose addresses are reserved. `routes` are those of its network, `node_mtu` is the MTU of the
    /// node's default route.
    pub fn new(request: &Add, mut addresses: Vec<IpAddr>, routes: &[PodRoute], node_mtu: Option<u32>) -> Self {
        addresses.sort_by_key(|address| !address.is_ipv4());
        let attachment = &request.attachment;
        let families =
            |route: &&PodRoute| addresses.iter().any(|address| address.is_ipv4() == route.destination.is_ipv4());
        let node_mtu = node_mtu.map_or(defaults::MTU, |mtu| mtu.clamp(defaults::SMALLEST_MTU, 65_535));
        // `ip link` shows the alias to people as it is.
        let pod = shown::line(&request.pod);
        Self {
            host: Device { name: host_device(attachment), mac: host_mac(attachment) },
            pod: Device { name: attachment.interface.clone(), mac: pod_mac(request) },
            mtu: request.network.mtu.unwrap_or(node_mtu),
            routes: routes.iter().filter(families).cloned().collect(),
            loopback_ports: on_loopback(&request.requested.ports, &addresses),
            ingress_hook: request.requested.bandwidth.egress.is_some(),
            // The fast path would bypass the shaping queue.
            fast_path: request.network.fast_path && request.requested.bandwidth == Bandwidth::default(),
            alias: alias_of(&attachment.network) + &pod[..pod.floor_char_boundary(60)],
            addresses,
        }
    }

    /// The gateway of an address.
    pub fn gateway(address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(_) => defaults::GATEWAY4.into(),
            IpAddr::V6(_) => defaults::GATEWAY6.into(),
        }
    }

    /// The gateways that get a route of their own in the pod: programs that add a route through the gateway, or that copy
    /// the pod's routes (sbr of the reference plugins, Kata, gVisor), need it to be reachable. Every IPv6 interface has a
    /// route to all link-local addresses.
    pub fn gateways_on_link(&self) -> Vec<IpAddr> {
        if self.addresses.iter().any(IpAddr::is_ipv4) { vec![defaults::GATEWAY4.into()] } else { Vec::new() }
    }

    /// Whether the pod has an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    /// Sysctls in the pod that are set if the kernel has them.
    pub fn pod_hardening(&self) -> Vec<Sysctl> {
        hardening(&self.pod.name).into()
    }

    /// The host side.
    pub fn host_side(&self) -> HostSide {
        HostSide {
            name: self.host.name.clone(),
            mac: self.host.mac,
            pod_mac: Some(self.pod.mac),
            addresses: self.addresses.clone(),
            loopback_ports: self.loopback_ports,
        }
    }

    /// Sysctls in the pod: redirects are ignored, and no address waits for duplicate address detection.
    pub fn pod_settings(&self) -> Vec<Sysctl> {
        let name = &self.pod.name;
        // On a device that does not forward, either of the two settings is enough to accept redirects. The other one is set
        // when the device comes up.
        let mut settings = vec![Sysctl::of_device("ipv4", "all", "accept_redirects", "0")];
        if self.has_ipv6() {
            let values = [("disable_ipv6", "0"), ("accept_dad", "0"), ("keep_addr_on_down", "1")];
            settings.extend(values.map(|(setting, value)| Sysctl::of_device("ipv6", name, setting, value)));
            // The pod reaches itself by `lo`. A runtime that disables IPv6 in new namespaces disables it here, too.
            settings.push(Sysctl::of_device("ipv6", "lo", "disable_ipv6", "0"));
        }
        settings
    }

    /// Sysctls on the host, other than IPv6 forwarding.
    pub fn host_settings(&self) -> Vec<Sysctl> {
        let mut settings = Vec::new();
        if self.addresses.iter().any(IpAddr::is_ipv4) {
            settings.push(Sysctl { path: "net/ipv4/ip_forward".into(), value: "1" });
        }
        settings.extend(self.host_side().enable_ipv6());
        settings.extend(self.host_side().answering());
        settings
    }

    /// The host end with its alias and IPv4 settings, still down.
    pub fn host_port(&self, device: u32) -> Request<Message> {
        link::set_router_port(device, self.mtu, Some(&self.alias), &self.host_side().ipv4_settings(Loopback::Open))
    }

    /// What the pod side gets, once the pair exists.
    pub fn pod_requests(&self, device: u32) -> Vec<Request<Message>> {
        let mut requests = vec![link::set_up_with(device, &self.pod.name, &[(Ipv4Setting::AcceptRedirects, 0)])];
        for address in &self.addresses {
            let gateway = Self::gateway(*address);
            requests.push(Address { device, address: family::host(*address) }.replace());
            requests.push(Neighbour { device, address: gateway, mac: self.host.mac }.replace());
        }
        for gateway in self.gateways_on_link() {
            let (destination, target) = (family::host(gateway), Target::Device(device));
            // Appended: another podwire interface of the pod has the same gateway.
            requests.push(Route { destination, metric: 0, target, protocol: POD_SIDE_PROTOCOL }.append());
        }
        requests
    }

    /// The pod's routes, once its interface is up.
    pub fn routes(&self, device: u32) -> Vec<Request<Message>> {
        self.routes.iter().map(|route| self.route(route, device, route.metric).add()).collect()
    }

    /// The routes of a second interface, if the pod already has routes to the same destinations. Those stay in use, and ours
    /// come after them with a higher metric. Packets from this interface's addresses use a routing table of their own: the
    /// anti-spoofing of the first interface would drop a reply that left there.
    pub fn second_interface_routes(&self, device: u32) -> Vec<Request<Message>> {
        let table = names::table(device);
        let mut requests = Vec::new();
        for route in &self.routes {
            requests.push(self.route(route, device, table).replace());
            requests.push(self.route(route, device, route.metric).replace_in(table));
        }
        requests.extend(self.rules(device).iter().map(Rule::add));
        requests
    }

    /// The routing rules that go with [`Plan::second_interface_routes`].
    fn rules(&self, device: u32) -> Vec<Rule> {
        self.addresses.iter().map(|address| names::rule(*address, device)).collect()
    }

    fn route(&self, route: &PodRoute, device: u32, metric: u32) -> Route {
        let target = Target::Gateway { gateway: Self::gateway(route.destination.ip()), device };
        Route { destination: route.destination, metric, target, protocol: POD_SIDE_PROTOCOL }
    }

    /// Hooks for the node's fast path. They are added before the host end comes up, because adding them to a device in use
    /// loses packets. The pod works without them.
    pub fn hooks(&self, device: u32) -> Option<Request<Message>> {
        (self.fast_path && !self.loopback_ports).then(|| bpf_hook::add_hooks(device))
    }

    /// The filter that keeps the pod away from the node's 127.0.0.0/8, and the hook for it. Only behind it may the host
    /// end accept 127.0.0.1, where host ports are reached from the node.
    pub fn loopback_filter(&self, device: u32) -> Vec<Request<Message>> {
        let hooks = (!self.ingress_hook).then(|| bpf_hook::add_hooks(device));
        hooks.into_iter().chain([loopback_filter::attach(device)]).collect()
    }

    /// The setting that makes the host end accept 127.0.0.1.
    pub fn accept_loopback(&self, device: u32) -> Request<Message> {
        link::set_ipv4(device, &self.host.name, &self.host_side().ipv4_settings(Loopback::Filtered))
    }

    /// What the host side gets, once the pair exists. After this the pod is reachable.
    pub fn host_requests(&self, device: u32) -> Vec<Request<Message>> {
        let host_side = self.host_side();
        let mut requests = vec![link::set_up(device, &host_side.name)];
        requests.extend(host_side.neighbours(device).iter().map(Neighbour::replace));
        requests.extend(host_side.gateway4(device).iter().map(ProxyNeighbour::replace));
        requests.extend(host_side.gateway6(device).iter().map(Address::replace));
        // "File exists" means a foreign route to this address, which must not be replaced.
        requests.extend(host_side.routes(device).iter().map(Route::add));
        requests
    }
}
