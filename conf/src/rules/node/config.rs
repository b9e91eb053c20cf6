//! What the node's rules follow from, beside the peers.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// The input of the firewall, beside the peers.
#[derive(Debug, Clone, Copy)]
pub struct NodeConfig<'a> {
    /// The node's own address on the underlay.
    pub own: IpAddr,
    /// The pod CIDRs of this node.
    pub own_pod_cidrs: &'a [IpNetwork],
    /// The cluster CIDRs.
    pub cluster_cidrs: &'a [IpNetwork],
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of the overlay.
    pub port: u16,
    /// Whether peers' pods may be reached by plain routes.
    pub plain_routes: bool,
    /// The link of the plain routes, where there are any.
    pub link: Option<PlainLink<'a>>,
    /// Whether packets of peers' pods are accepted that are not encapsulated, whatever route leads back to them.
    pub accept_plain: bool,
    /// Whether packets of pods that leave the cluster are masqueraded.
    pub masquerade: bool,
    /// Destinations that are not masqueraded, beside the cluster.
    pub not_masqueraded: &'a [IpNetwork],
    /// Destinations that pods do not reach. One that has the cluster in it leaves the cluster out.
    pub refused_destinations: &'a [IpNetwork],
    /// Whether the fast path is on.
    pub fast_path: bool,
    /// Addresses of the node that are there only for Services, which host ports leave out.
    pub service_addresses: &'a [IpAddr],
}

/// The link that peers with plain routes are on.
#[derive(Debug, Clone, Copy)]
pub struct PlainLink<'a> {
    /// The device of the plain routes.
    pub device: &'a str,
    /// The node's other devices on the same link: a peer may have been told one of their link-layer addresses for the node's.
    pub others: &'a [&'a str],
}
