//! The named counters of the node's guards. What is counted stands beside each guard.

pub(super) const NOT_PEERS: &str = "overlay-strangers";
pub(super) const SOURCES: &str = "overlay-sources";
pub(super) const PLAIN: &str = "plain-sources";
pub(super) const ENCAPSULATION: &str = "pod-encapsulation";
pub(super) const UNTRANSLATED: &str = "pod-untranslated";
pub(super) const DESTINATIONS: &str = "pod-destinations";
/// The counter of errors that claim a smaller path.
pub const PATH_MTU: &str = "path-mtu";
pub(super) const SPOOFING: &str = "pod-spoofing";

/// The counters of the guards: the name of each, and what it counts.
pub const GUARDS: [(&str, &str); 8] = [
    (NOT_PEERS, "packets to the VXLAN port from an address that is not a peer's"),
    (SOURCES, "packets of a peer whose inner source is not its own, or with an inner packet that no peer sends"),
    (PLAIN, "packets from an address of the cluster that came neither from a pod nor by the way that leads to it"),
    (ENCAPSULATION, "packets of a pod to the VXLAN port of a node"),
    (UNTRANSLATED, "packets of a pod to the outside that belong to no connection, so that nothing masquerades them"),
    (DESTINATIONS, "packets of a pod to its gateways' own addresses, or to one of refused_destinations"),
    (
        PATH_MTU,
        "ICMP errors that claim a smaller path MTU to a peer or a pod and cannot be checked, and such errors of pods to the node",
    ),
    (SPOOFING, "packets of a pod from an address that is not its own: IPv6, and IPv4 to the node itself"),
];
