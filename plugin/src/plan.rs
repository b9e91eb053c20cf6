//! What an attachment looks like in the kernel: names, addresses, routes, settings of both ends. Pure: the same request
//! gives the same plan, so that DEL finds by name what ADD made, with nothing remembered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podwire_attachment::host_side::HostSide;
use podwire_attachment::host_side::distrust;
use podwire_attachment::names::{self, alias_of, host_device, host_mac};
use podwire_conf::{Bandwidth, Route as PodRoute, defaults};
use podwire_kernel::address::Address;
use podwire_kernel::link::{self, Ipv4Setting};
use podwire_kernel::neighbour::Neighbour;
use podwire_kernel::netlink::message::Message;
use podwire_kernel::route::{Route, Target};
use podwire_kernel::rule::Rule;
use podwire_kernel::sysctl::Sysctl;
use podwire_kernel::tc::bpf_hook;
use podwire_kernel::{Mac, Request, family};

use crate::cni::Add;

/// The pod's gateways: the same in every pod of every node, since the host answers for them by its link-layer address,
/// which the pod is told (RFC 3927 for the first, RFC 4291 section 2.5.6 for the second).
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// `RTPROT_BOOT`: routes inside of the pod are the pod's.
const INSIDE_PROTOCOL: u8 = 3;

/// An attachment to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The veth's end on the host.
    pub host: Device,
    /// The veth's end in the pod.
    pub pod: Device,
    /// The MTU of both, in bytes.
    pub mtu: u32,
    /// The pod's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The destinations the pod reaches through the host.
    pub routes: Vec<PodRoute>,
    /// Whether a port of the node leads to the pod.
    pub has_ports: bool,
    /// What a human reads beside the host's end.
    pub alias: String,
    /// Whether the host's end is made ready for the node's fast path.
    pub fast_path: bool,
}

/// One end of the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its link-layer address.
    pub mac: Mac,
}

/// The link-layer address of the pod's end: the one that is wished, or one that follows from the attachment.
pub fn pod_mac(request: &Add) -> Mac {
    request.requested.mac.unwrap_or_else(|| names::pod_mac(&request.attachment))
}

impl Plan {
    /// The plan for a request whose addresses are reserved: `routes` are those of its network, `way_out` is the MTU of
    /// the node's own way out.
    pub fn new(request: &Add, mut addresses: Vec<IpAddr>, routes: &[PodRoute], way_out: Option<u32>) -> Self {
        addresses.sort_by_key(|address| !address.is_ipv4());
        let attachment = &request.attachment;
        let families =
            |route: &&PodRoute| addresses.iter().any(|address| address.is_ipv4() == route.destination.is_ipv4());
        let way_out = way_out.map_or(defaults::MTU, |mtu| mtu.clamp(defaults::SMALLEST_MTU, 65_535));
        Self {
            host: Device { name: host_device(attachment), mac: host_mac(attachment) },
            pod: Device { name: attachment.interface.clone(), mac: pod_mac(request) },
            mtu: request.network.mtu.unwrap_or(way_out),
            routes: routes.iter().filter(families).cloned().collect(),
            has_ports: !request.requested.ports.is_empty(),
            // What a queue holds would be passed by.
            fast_path: request.network.fast_path && request.requested.bandwidth == Bandwidth::default(),
            alias: alias_of(&attachment.network) + &request.pod[..request.pod.floor_char_boundary(60)],
            addresses,
        }
    }

    /// The gateway of an address.
    pub fn gateway(address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(_) => GATEWAY4.into(),
            IpAddr::V6(_) => GATEWAY6.into(),
        }
    }

    /// The gateways that get a route of their own in the pod: programs that add a route through a gateway, and machines
    /// that copy a pod's routes (sbr of the reference plugins, Kata, gVisor), ask for a way to it. Every IPv6 interface has
    /// one to all link-local addresses.
    pub fn gateways_on_link(&self) -> Vec<IpAddr> {
        if self.addresses.iter().any(IpAddr::is_ipv4) { vec![GATEWAY4.into()] } else { Vec::new() }
    }

    /// Whether the pod has an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    /// Kernel settings in the pod that are written where there are such.
    pub fn pod_distrust(&self) -> Vec<Sysctl> {
        distrust(&self.pod.name).into()
    }

    /// The host's side.
    pub fn outer(&self) -> HostSide {
        HostSide {
            name: self.host.name.clone(),
            mac: self.host.mac,
            pod_mac: Some(self.pod.mac),
            addresses: self.addresses.clone(),
            has_ports: self.has_ports,
        }
    }

    /// Kernel settings in the pod: no redirect is believed, and no address waits for duplicate detection.
    pub fn pod_settings(&self) -> Vec<Sysctl> {
        let name = &self.pod.name;
        // Of a device that does not forward, one of the two is enough for a redirect to be believed; the other is set as
        // the device comes up.
        let mut settings = vec![Sysctl::of_device("ipv4", "all", "accept_redirects", "0")];
        if self.has_ipv6() {
            let values = [("disable_ipv6", "0"), ("accept_dad", "0"), ("keep_addr_on_down", "1")];
            settings.extend(values.map(|(setting, value)| Sysctl::of_device("ipv6", name, setting, value)));
            // By which the pod reaches itself. A runtime that turns IPv6 off for new namespaces turns it off here, too.
            settings.push(Sysctl::of_device("ipv6", "lo", "disable_ipv6", "0"));
        }
        settings
    }

    /// Kernel settings on the host, beside IPv6 forwarding.
    pub fn host_settings(&self) -> Vec<Sysctl> {
        let mut settings = Vec::new();
        if self.addresses.iter().any(IpAddr::is_ipv4) {
            settings.push(Sysctl { path: "net/ipv4/ip_forward".into(), value: "1" });
        }
        settings.extend(self.outer().ipv6_on());
        settings
    }

    /// The host's end, named for humans and closed to addresses that are not routed to it.
    pub fn describe_host(&self, device: u32) -> Request<Message> {
        link::set_router_port(device, self.mtu, Some(&self.alias), &self.outer().ipv4_settings())
    }

    /// The pod's side, once the pair exists.
    pub fn inside(&self, device: u32) -> Vec<Request<Message>> {
        let mut requests = vec![link::set_up_with(device, &self.pod.name, &[(Ipv4Setting::AcceptRedirects, 0)])];
        for address in &self.addresses {
            let gateway = Self::gateway(*address);
            requests.push(Address { device, address: family::host(*address) }.replace());
            requests.push(Neighbour { device, address: gateway, mac: self.host.mac }.replace());
        }
        for gateway in self.gateways_on_link() {
            let (destination, target) = (family::host(gateway), Target::Device(device));
            // Behind that of another interface of the pod: the same gateway is on each.
            requests.push(Route { destination, metric: 0, target, protocol: INSIDE_PROTOCOL }.append());
        }
        requests
    }

    /// The pod's routes, once its interface is up.
    pub fn routes(&self, device: u32) -> Vec<Request<Message>> {
        self.routes.iter().map(|route| self.route(route, device, route.metric).add()).collect()
    }

    /// The pod's routes where it has others to the same destinations, through another interface. Those go on to be used
    /// (ours come behind them, for the day on which they have gone); what is sent from this interface's addresses goes by
    /// a table of its own, since an answer that left by another interface would not be let pass.
    pub fn routes_beside(&self, device: u32) -> Vec<Request<Message>> {
        let table = names::table(device);
        let mut requests = Vec::new();
        for route in &self.routes {
            requests.push(self.route(route, device, table).replace());
            requests.push(self.route(route, device, route.metric).replace_in(table));
        }
        requests.extend(self.rules(device).iter().map(Rule::add));
        requests
    }

    /// The rules that go with [`Plan::routes_beside`].
    fn rules(&self, device: u32) -> Vec<Rule> {
        self.addresses.iter().map(|address| names::rule(*address, device)).collect()
    }

    fn route(&self, route: &PodRoute, device: u32, metric: u32) -> Route {
        let target = Target::Gateway { gateway: Self::gateway(route.destination.ip()), device };
        Route { destination: route.destination, metric, target, protocol: INSIDE_PROTOCOL }
    }

    /// What the node's fast path needs, before the host's end comes up: to give hooks to a device that carries packets
    /// costs some of them. The pod can do without.
    pub fn hooks(&self, device: u32) -> Option<Request<Message>> {
        self.fast_path.then(|| bpf_hook::add_hooks(device))
    }

    /// The host's side, once the pair exists: after this the pod is reachable.
    pub fn outside(&self, device: u32) -> Vec<Request<Message>> {
        let outer = self.outer();
        let mut requests = vec![link::set_up(device, &outer.name)];
        requests.extend(outer.neighbours(device).iter().map(Neighbour::replace));
        // "File exists" means that somebody else holds the address: it must not be taken from them.
        requests.extend(outer.routes(device).iter().map(Route::add));
        requests
    }
}
