//! Which tracked connections the node's rules would have treated otherwise, had they been there at the first packet: chains
//! of type `nat` see no other.
//!
//! What may not live here: finding and deleting them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::conntrack::Connection;

use crate::rules::node::config::NodeConfig;
use crate::rules::node::outside::is_in_cluster;

/// Whether a connection is one of this node's pods to the outside that is not masqueraded, or to where pods are refused. It is
/// to be forgotten once the rules are there. One to the node itself is never masqueraded, and loses nothing by being tracked
/// anew.
pub fn is_outdated(config: &NodeConfig<'_>, connection: &Connection) -> bool {
    let within = |prefixes: &[IpNetwork], address: IpAddr| prefixes.iter().any(|prefix| prefix.contains(address));
    // Where it really goes: what it is sent to may be a Service.
    let to = connection.reply_source.ip();
    if !within(config.own_pod_cidrs, connection.source.ip()) {
        return false;
    }
    if within(config.cluster_cidrs, to) {
        return config.refused_destinations.iter().any(|prefix| prefix.contains(to) && is_in_cluster(config, *prefix));
    }
    within(config.refused_destinations, to)
        || (config.masquerade && connection.keeps_its_source() && !within(config.not_masqueraded, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_untranslated_or_goes_where_pods_are_refused_is_outdated() {
        let net = |text: &str| -> IpNetwork { text.parse().unwrap() };
        let (own, cluster) = ([net("10.244.1.0/24"), net("fd00:1::/64")], [net("10.244.0.0/16"), net("fd00::/32")]);
        let kept = [net("192.0.2.0/24")];
        let refused = [net("169.254.169.254/32"), net("10.244.9.0/24"), net("10.0.0.0/8")];
        let config = NodeConfig {
            own: "192.168.50.1".parse().unwrap(),
            own_pod_cidrs: &own,
            cluster_cidrs: &cluster,
            vni: 1,
            port: 8472,
            plain_routes: false,
            link: None,
            accept_plain: false,
            masquerade: true,
            not_masqueraded: &kept,
            refused_destinations: &refused,
            fast_path: false,
            service_addresses: &[],
        };
        let flow = |source: &str, destination: &str, reply_source: &str, masqueraded: bool| {
            let mut flow = Connection::untracked(
                17,
                source.parse().unwrap(),
                destination.parse().unwrap(),
                reply_source.parse().unwrap(),
            );
            if masqueraded {
                flow.reply_destination = "192.168.50.1:4711".parse().unwrap();
            }
            flow
        };
        for (source, destination, reply_source, masqueraded, outdated) in [
            ("10.244.1.2:1", "8.8.8.8:53", "8.8.8.8:53", false, true),
            ("[fd00:1::2]:1", "[2001:db8::8]:53", "[2001:db8::8]:53", false, true),
            ("10.244.1.2:1", "8.8.8.8:53", "8.8.8.8:53", true, false),
            ("10.244.1.2:1", "169.254.169.254:80", "169.254.169.254:80", true, true),
            // A Service whose endpoint is a pod, or is refused.
            ("10.244.1.2:1", "10.96.0.1:80", "10.244.2.2:80", false, false),
            ("10.244.1.2:1", "10.96.0.1:80", "169.254.169.254:80", true, true),
            ("10.244.1.2:1", "192.0.2.1:80", "192.0.2.1:80", false, false),
            // A refused part of the cluster, and the cluster in a refused prefix.
            ("10.244.1.2:1", "10.244.9.2:80", "10.244.9.2:80", false, true),
            ("10.244.1.2:1", "10.244.8.2:80", "10.244.8.2:80", false, false),
            ("10.244.1.2:1", "10.9.9.9:80", "10.9.9.9:80", true, true),
            // Of others.
            ("10.244.2.2:1", "8.8.8.8:53", "8.8.8.8:53", false, false),
            ("192.168.50.1:1", "8.8.8.8:53", "8.8.8.8:53", false, false),
        ] {
            let found = is_outdated(&config, &flow(source, destination, reply_source, masqueraded));
            assert_eq!(found, outdated, "{source} {destination} {reply_source} {masqueraded}");
        }
        let flow = flow("10.244.1.2:1", "8.8.8.8:53", "8.8.8.8:53", false);
        assert!(!is_outdated(&NodeConfig { masquerade: false, ..config }, &flow));
    }
}
