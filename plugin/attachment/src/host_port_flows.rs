//! Tracked UDP flows that do not follow a change of host ports: they are deleted, and their next packets are translated
//! anew. TCP ends, UDP does not: the kernel would keep the old translation for as long as packets come.
//!
//! Only flows to the very host port are deleted, and of these only those that now go elsewhere. A flow to the same port
//! of another host (masqueraded perhaps), or one that a Service's rules have translated, is somebody's connection.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use podwire_conf::rules::host_ports::{Mapping, Protocol};
use podwire_kernel::conntrack::{self, Connection};
use podwire_kernel::{Result, Socket, route};

/// What has become of the host ports of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// They lead to the pod now.
    Added,
    /// They do not lead to the pod any more.
    Removed,
    /// Those of every local address leave these out now.
    LeftOut(&'a BTreeSet<IpAddr>),
}

/// Deletes the flows that do not follow the change: all ports of a pod in one search.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn forget(
    mappings: impl Iterator<Item = Mapping>,
    change: Change<'_>,
    netfilter: &mut Socket,
) -> Result<()> {
    // By family and port: a pod may have one port at several addresses.
    let mut wanted: HashMap<(bool, u16), Vec<Mapping>> = HashMap::new();
    for mapping in mappings.filter(|mapping| mapping.protocol == Protocol::Udp) {
        wanted.entry((mapping.pod.is_ipv4(), mapping.host_port)).or_default().push(mapping);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let ports: BTreeSet<u16> = wanted.keys().map(|(_, port)| *port).collect();
    let mut flows = conntrack::list_to_ports(netfilter, Protocol::Udp.number(), &ports)?;
    flows.retain(|flow| {
        let to = (flow.destination.is_ipv4(), flow.destination.port());
        wanted.get(&to).into_iter().flatten().any(|mapping| is_outdated(mapping, change, flow))
    });
    if flows.is_empty() {
        return Ok(());
    }
    // What leads to a pod that goes is forgotten wherever it was for: a virtual IP may have moved to another node since.
    if change == Change::Added {
        let local = local(flows.iter().map(|flow| flow.destination.ip()))?;
        flows.retain(|flow| local.contains(&flow.destination.ip()));
    }
    conntrack::forget_each(netfilter, &flows)
}

/// Whether a flow goes elsewhere than the mapping says, or would say if it were there; for an addition, given that its
/// destination is an address of the node.
fn is_outdated(mapping: &Mapping, change: Change<'_>, flow: &Connection) -> bool {
    let pod = SocketAddr::new(mapping.pod, mapping.pod_port);
    let is_meant = mapping.specific_address().is_none_or(|address| address == flow.destination.ip());
    is_meant
        && match change {
            // To the node itself, or to an earlier owner of the pod's address. Others' translations come first.
            Change::Added => flow.is_untranslated() || (flow.reply_source.ip() == pod.ip() && flow.reply_source != pod),
            Change::Removed => flow.reply_source == pod,
            Change::LeftOut(addresses) => {
                mapping.specific_address().is_none()
                    && flow.reply_source == pod
                    && addresses.contains(&flow.destination.ip())
            }
        }
}

/// Those of some addresses that are the node's, by the routing tables, as the rules ask.
fn local(addresses: impl Iterator<Item = IpAddr>) -> Result<BTreeSet<IpAddr>> {
    let mut socket = Socket::route()?;
    let mut local = BTreeSet::new();
    for address in addresses.collect::<BTreeSet<_>>() {
        if route::is_local(&mut socket, address)? {
            local.insert(address);
        }
    }
    Ok(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "10.244.1.5";

    fn mapping(host_address: Option<&str>) -> Mapping {
        Mapping {
            protocol: Protocol::Udp,
            host_address: host_address.map(|address| address.parse().unwrap()),
            host_port: 53,
            pod: POD.parse().unwrap(),
            pod_port: 5353,
        }
    }

    fn flow(reply_source: &str) -> Connection {
        let address = |text: &str| text.parse().unwrap();
        Connection::untracked(17, address("192.0.2.1:4711"), address("192.0.2.9:53"), address(reply_source))
    }

    #[test]
    fn a_flow_is_outdated_when_it_goes_elsewhere_than_the_host_port() {
        // Where its replies come from; whether it is outdated after an addition, and after a removal.
        let cases = [
            ("192.0.2.9:53", true, false),
            ("10.244.1.5:5353", false, true),
            ("10.244.1.5:53", true, false),
            ("10.244.1.6:5353", false, false),
            ("10.244.2.7:53", false, false),
        ];
        for (reply_source, added, removed) in cases {
            for host_address in [None, Some("0.0.0.0"), Some("192.0.2.9")] {
                let outdated = |change| is_outdated(&mapping(host_address), change, &flow(reply_source));
                assert_eq!((outdated(Change::Added), outdated(Change::Removed)), (added, removed), "{reply_source}");
            }
            let other = |change| is_outdated(&mapping(Some("192.0.2.10")), change, &flow(reply_source));
            assert_eq!((other(Change::Added), other(Change::Removed)), (false, false), "{reply_source}");
        }
    }

    #[test]
    fn a_flow_to_an_address_that_is_left_out_is_outdated_where_a_host_port_of_all_addresses_has_translated_it() {
        let [service, other] = ["192.0.2.9", "192.0.2.8"].map(|text| BTreeSet::from([text.parse().unwrap()]));
        let outdated = |host_address, left_out, reply_source| {
            is_outdated(&mapping(host_address), Change::LeftOut(left_out), &flow(reply_source))
        };
        assert!(outdated(None, &service, "10.244.1.5:5353"));
        assert!(!outdated(None, &other, "10.244.1.5:5353"));
        // By its own address a host port is not left out, and a Service's endpoint may be the pod at another port.
        assert!(!outdated(Some("192.0.2.9"), &service, "10.244.1.5:5353"));
        assert!(!outdated(None, &service, "10.244.1.5:53"));
    }
}
